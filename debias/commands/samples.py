"""Sample sheets of a data set: some images of every class, from its training images and from each of its test sets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.text import Text
from sacred.run import Run
from torch import Tensor

from debias.commands.common import load_data, prepare, say_where
from debias.commands.console import say, show
from debias.commands.leavings import MOST_SHOWN, any_conflicting, examples
from debias.data.mapped import in_memory
from debias.data.split import Split, Task
from debias.tracking import pictures as draw
from debias.tracking.observers import check_kept

# A colour that travels beside an image is shown below it, in a strip of the image's height over this number.
STRIP = 7
_TITLES = {
    "train": "training images",
    "valid": "validation images",
    "test": "test images",
}


def show_samples(run: Run) -> None:
    """Leave a sheet of every part of the data set in the run's folder."""
    task = load_data(prepare(run), images=True)
    show(*(Text(note) for note in task.notes))
    with tempfile.TemporaryDirectory() as folder:
        for path in sample_sheets(task, Path(folder)):
            run.add_artifact(path)
    check_kept(run)
    say_where(run)
    if not any(getattr(observer, "dir", None) for observer in run.observers):
        say("nothing was kept: runs are not recorded in files")


def sample_sheets(task: Task, folder: Path) -> Iterator[Path]:
    """Draw samples-<part>.png for the training, validation and test images, and yield their paths.

    A row is a class. Of ten training images up to three go against the bias, as the first conflicting ones may be far
    between; of all others as many biases as possible are shown.
    """
    parts = {"train": task.train, "valid": task.valid, "test": task.test, **task.extra_tests}
    for part, split in parts.items():
        if split is None or len(split) == 0:
            continue
        each = min(10, int(torch.unique(split.target, return_counts=True)[1].min()))
        chosen = examples(task, split, each) if part == "train" else in_turn(split, each)
        yield draw.plot_images(
            shown(split.subset(chosen)),
            captions(task, split.subset(chosen)),
            title=f"{task.name}: {_TITLES.get(part, f'test images, {part}')}"
            + (", the last of a row conflicting" if part == "train" and any_conflicting(task, split) else ""),
            path=folder / f"samples-{part}.png",
            columns=each,
        )


def in_turn(split: Split, each: int = 10) -> Tensor:
    """Positions of `each` images of every target, target by target: one of every bias, then a second one, and so on."""
    bias = torch.zeros_like(split.target) if split.bias is None else split.bias
    places = []
    for label in split.target.unique()[:MOST_SHOWN]:
        own = torch.nonzero(split.target == label).flatten()
        by_bias = own[torch.argsort(bias[own], stable=True)]
        count = torch.bincount(bias[own])
        rank = torch.arange(len(own)) - (count.cumsum(0) - count)[bias[by_bias]]
        chosen = by_bias[torch.argsort(rank, stable=True)][:each]
        places.append(chosen[torch.argsort(bias[chosen], stable=True)])
    return torch.cat(places)


def shown(split: Split) -> Tensor:
    """Images as they are, uint8 [N, C, H, W]; a colour that stands beside an image as a strip below it."""
    images = in_memory(split.shown)
    if split.vector is None or split.vector.shape[1] != 3:
        return images
    images = images.expand(-1, 3, -1, -1)
    height = max(1, images.shape[2] // STRIP)
    colours = (255 * split.vector.clamp(0, 1)).round().to(torch.uint8)
    strip = colours[:, :, None, None].expand(-1, -1, height, images.shape[3])
    return torch.cat([images, strip], dim=2)


def captions(task: Task, split: Split) -> list[str]:
    """Target and, where it is known, bias of every image, by name."""
    targets = [task.target_names[label] for label in split.target.tolist()]
    if split.bias is None or task.bias_names is None:
        return targets
    biases = [task.bias_names[label] for label in split.bias.tolist()]
    return [f"{target}\n{bias}" for target, bias in zip(targets, biases, strict=True)]
