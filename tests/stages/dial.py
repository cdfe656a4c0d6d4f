"""A model whose accuracy in every epoch is written down beforehand, and what it takes to train it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import SGD

from debias.data.batches import Batches
from debias.data.split import Split, Task
from debias.training.job import Job, Update
from debias.training.stage import Context
from debias.training.store import StageFolder

# One image of every group: both aligned ones first.
TARGET, BIAS = [0, 1, 0, 1], [0, 1, 1, 0]


def split(part: int, target: Sequence[int] = TARGET, bias: Sequence[int] | None = BIAS) -> Split:
    """Images of one pixel: channels are the image's place, its target, and the part it belongs to."""
    pixels = torch.tensor([[place, label, part] for place, label in enumerate(target)], dtype=torch.uint8)
    labels = None if bias is None else torch.tensor(bias)
    return Split(pixels[:, :, None, None], torch.tensor(target), labels, torch.arange(len(target)))


def task_of(train: Split | None = None, test: Split | None = None, valid: Split | None = None) -> Task:
    return Task("dial", train or split(0), test or split(1), valid, ("no", "yes"), ("left", "right"), "key")


class Dial(nn.Module):
    """Counts its training steps in a weight; after step w it gets the first `right[part][w]` images right."""

    def __init__(self, tested: Sequence[int], held_out: Sequence[int] = ()) -> None:
        super().__init__()
        self.turned = nn.Parameter(torch.zeros(()))
        self.right = torch.tensor([[0] * len(tested), tested, held_out or [0] * len(tested)])

    def forward(self, images: Tensor) -> Tensor:
        place, target, part = (images * 255).round().long().flatten(1).unbind(1)
        known = place < self.right[part, self.turned.long()]
        return one_hot(torch.where(known, target, 1 - target), 2).float()


def context_in(path: Path, task: Task, **changes: Any) -> Context:
    """Surroundings that keep checkpoints of every epoch in a folder."""
    path.mkdir(exist_ok=True)
    values = {
        "settings": {"dial": {}},
        "stage": "dial",
        "device": torch.device("cpu"),
        "seed": 1,
        "log": lambda name, value, epoch: None,
        "say": lambda line: None,
        "progress": False,
        "checkpoint_seconds": 0.0,
    }
    return Context(task=task, folder=StageFolder(path), **{**values, **changes})


def turn(model: Dial, task: Task, epochs: int, **changes: Any) -> Job:
    """A job that turns the dial by one each epoch (by the schedule's factor, where there is one)."""
    update = Update(lambda batch: -model.turned, SGD(model.parameters(), lr=1.0))
    values = {"read_outs": lambda images: {"dial": model(images)}, "main": "dial"}
    return Job(model, [update], Batches(task.train, len(task.train)), epochs, **{**values, **changes})
