"""Command lines that make every stage small, pictures that cost nothing, and what runs in processes of their own."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it in their first step, so each of many processes would
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from debias import main
from debias.data.batches import Batch, Batches
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.training.store import StageFolder

TINY = (
    "dataset=colored_digits", "limit=600", "skew=0.2", "device=cpu", "threads=1", "progress=False", "pictures=False"
)  # fmt: skip


def short(method: str, epochs: int = 2, batch_size: int = 128) -> list[str]:
    """Words that choose a method (its name or `[a, b]`) and make each stage a few passes of a small network."""
    names = RECIPES[method].stages if method in RECIPES else method.strip("[]").split(",")
    words = [f"method={method}"]
    for stage in (STAGES[name.strip()] for name in names):
        sizes = {"epochs": epochs, "steps": 0, "network": "mlp3", "batch_size": batch_size}
        if method == "lntl_pretrained":
            del sizes["network"]  # its second stage goes on with the network of its papers alone
            words.append("pretrain.network=convnet")
        if stage.name == "lntl":
            # That network takes twenty times as long as the others.
            words.append("limit=120")
            sizes["batch_size"] = 24
        if stage.name == "transfer":
            words.append("transfer.most=2")
        words += [f"{stage.name}.{name}={value}" for name, value in sizes.items() if name in stage.settings]
    return words


def method_with(stage: str) -> str:
    """The shortest method that has a stage: a recipe where one does, else its needs filled one by one."""
    recipes = [name for name, recipe in RECIPES.items() if stage in recipe.stages]
    if recipes:
        return min(recipes, key=lambda name: RECIPES[name].stages.index(stage))
    return list_with(stage)


def list_with(stage: str) -> str:
    """The shortest list of stages that ends with one: its needs filled one by one."""
    names = [stage]
    for need in STAGES[stage].needs:
        giver = next(other.name for other in STAGES.values() if need in other.gives and not other.needs)
        names.insert(0, giver)
    stages_of(names)
    return f"[{','.join(names)}]"


def same(one: Any, other: Any, where: str = "") -> None:
    """Assert that two results are equal to the last bit, but for the seconds they took."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            if name != "seconds":
                same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            same(left, right, f"{where}/{place}")
    elif is_dataclass(one):
        same(vars(one), vars(other), where)
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert one == other or (one != one and other != other), where


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """The arrays stored below a folder, each with what changes when it is written again, if only with the same."""
    stats = {path: path.stat() for path in folder.rglob("*.npy")}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


@contextmanager
def empty_pictures() -> Iterator[None]:
    """Pictures are laid out, but their files stay empty: writing them takes four fifths of a small run."""
    draw = FigureCanvasAgg.print_png

    @wraps(draw)  # matplotlib looks at what it takes
    def print_png(canvas: Any, target: Any, *args: Any, **options: Any) -> None:
        if isinstance(target, str | Path):
            Path(target).write_bytes(b"")
        else:
            draw(canvas, target, *args, **options)

    FigureCanvasAgg.print_png = print_png  # type: ignore[method-assign]
    try:
        yield
    finally:
        FigureCanvasAgg.print_png = draw  # type: ignore[method-assign]


def run_and_die(stage: str, checkpoints: int, batches: int, words: list[str], output: str) -> None:
    """Run a command line, and be killed in `stage`: after so many checkpoints, on the n-th training batch from there.

    With `batches=0` the end comes immediately, with `batches=-1` while the next checkpoint is being written.
    """
    written, seen = 0, 0
    save, epoch = StageFolder.save_checkpoint, Batches.epoch

    def half_a_file(value: Any, handle: Any) -> None:
        handle.write(b"half of a file")
        handle.flush()
        _die()

    def saving(folder: StageFolder, state: Any) -> None:
        nonlocal written
        if written == checkpoints and batches == -1 and folder.path.name.startswith(f"{stage}-"):
            torch.save = half_a_file  # type: ignore[assignment]
        save(folder, state)
        written += folder.path.name.startswith(f"{stage}-")
        if written == checkpoints and batches == 0:
            _die()

    def passing(self: Batches, generator: torch.Generator | None = None) -> Iterator[Batch]:
        nonlocal seen
        for batch in epoch(self, generator):
            if self.shuffle and written == checkpoints > 0:
                seen += 1
                if seen == batches:
                    _die()
            yield batch

    StageFolder.save_checkpoint = saving  # type: ignore[method-assign,assignment]
    Batches.epoch = passing  # type: ignore[method-assign]
    run_command(words, output)


def run_command(words: list[str], output: str) -> None:
    """Run a command line with its standard error in a file, and exit with its status."""
    handle = Path(output).open("w", buffering=1, encoding="utf-8")  # noqa: SIM115
    sys.__stderr__ = sys.stderr = handle  # type: ignore[misc]
    sys.exit(main.main(words))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
