"""One pass over a split in large batches: the target x bias matrix of every read-out."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.batches import Batches
from data.split import Split, Task
from metrics import GroupMatrix, prediction_counts

# Given images [B, C, H, W], or images and vectors where there is a second modality (`Batch.inputs`).
ReadOuts = Callable[[Any], Mapping[str, Tensor]]

# Values of one evaluation batch: large enough to be limited by arithmetic, small enough for any memory.
_VALUES = 5_000_000
# On a GPU, where launches limit small networks: their 10,000 test images are one batch.
_VALUES_ON_GPU = 25_000_000


def in_order(task: Task, split: Split) -> Batches:
    """Batches of a split for evaluation: in order, not augmented, as large as is sensible."""
    values = _VALUES_ON_GPU if split.device.type == "cuda" else _VALUES
    size = max(1, min(len(split), values // math.prod(task.image_shape)))
    return Batches(split, size, mean=task.mean, std=task.std, shuffle=False)


@torch.inference_mode()
def count_predictions(model: nn.Module, read_outs: ReadOuts, task: Task, split: Split) -> dict[str, Tensor]:
    """Images of every target, bias and prediction, int64 [T, B, T] for each read-out, on the split's device.

    The model is put into evaluation mode for the pass and back into the mode it was in.
    """
    totals: dict[str, Tensor] = {}
    training = model.training
    model.eval()
    for batch in in_order(task, split).epoch():
        for name, logits in read_outs(batch.inputs).items():
            counts = prediction_counts(logits.argmax(1), batch.target, batch.bias, task.n_targets, task.n_biases)
            totals[name] = totals[name] + counts if name in totals else counts
    model.train(training)
    return totals


def group_matrices(model: nn.Module, read_outs: ReadOuts, task: Task, split: Split) -> dict[str, GroupMatrix]:
    """The matrix of every read-out. A CPU-GPU sync point."""
    counts = count_predictions(model, read_outs, task, split)
    return {name: GroupMatrix.from_predictions(found, task.ties) for name, found in counts.items()}


def matrices_on_tests(model: nn.Module, read_outs: ReadOuts, task: Task) -> dict[str, GroupMatrix]:
    """The matrix of every read-out on the test set, and as <read-out>@<name> on every extra one. A CPU-GPU sync point.

    A read-out's name holds no @ of its own, so none is ever mistaken for another's.
    """
    matrices = group_matrices(model, read_outs, task, task.test)
    for test, split in task.extra_tests.items():
        found = group_matrices(model, read_outs, task, split)
        matrices |= {f"{name}@{test}": matrix for name, matrix in found.items()}
    return matrices


@torch.inference_mode()
def map_images(function: Callable[[Any], Tensor], task: Task, split: Split) -> Tensor:
    """`function` of the inputs of every image of a split, not augmented, concatenated in order."""
    return torch.cat([function(batch.inputs) for batch in in_order(task, split).epoch()])
