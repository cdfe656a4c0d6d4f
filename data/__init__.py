"""Where biased data comes from and how it reaches the device."""

from data.batches import Batch, Batches
from data.loading import load_task
from data.registry import DATASETS
from data.spec import DatasetSpec
from data.split import Split, Task, hold_out

__all__ = ["DATASETS", "Batch", "Batches", "DatasetSpec", "Split", "Task", "hold_out", "load_task"]
