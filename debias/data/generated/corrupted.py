"""Corrupted CIFAR-10: every image gets a corruption tied to its class (generator of LfF, Nam et al. 2020; DeNetDM)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from debias.data.cache import Arrays, cached, key_of
from debias.data.generated.colored import TEST_SKEW, assign_bias
from debias.data.generated.corruptions import CORRUPTIONS, LEVELS, TYPES
from debias.data.generated.corruptions.frosting import photographs
from debias.data.generated.corruptions.pixels import Corruption
from debias.data.generated.corruptions.weather import frost
from debias.data.generated.tasks import task_of
from debias.data.kinds import CIFAR
from debias.data.sources import lff_files
from debias.data.sources.cifar import cifar10
from debias.data.sources.cifar_files import CLASSES, MEAN, STD
from debias.data.sources.idx import Source
from debias.data.spec import DatasetSpec
from debias.data.split import Task
from debias.digests import digest_of
from debias.errors import UserError
from debias.randomness import stream

VERSION = 1
CHUNK = 500


def load(settings: Mapping[str, Any]) -> Task:
    """The task that the run's settings describe (complete, see `data.settings`), built where it is not in the cache."""
    name, cache_dir, progress = "corrupted_cifar10", Path(settings["cache_dir"]), settings.get("progress", False)
    kind, skew, severity, seed = (settings[field] for field in ("type", "skew", "severity", "seed"))
    level_of(severity)
    folder = settings["frost_dir"]
    panes = None if folder is None else photographs(Path(folder))
    source = cifar10(settings["data_dir"], cache_dir, settings["limit"], seed, progress)
    placement = settings["placement"]
    key = data_key(source, kind, skew, severity, seed, placement, panes)

    def build() -> Arrays:
        return build_arrays(source, kind, skew, severity, seed, placement, panes, progress)

    arrays = cached(cache_dir, name, key, build)
    return as_task(arrays, name=name, names=source.names, kind=kind, key=key, reverse=settings["reverse"])


def level_of(severity: int) -> int:
    """CIFAR-10-C's level of a severity: one more. The papers' severity4 is the strongest level, 5.

    Raises
    ------
    UserError
        `severity` outside 0..4.
    """
    if severity not in range(LEVELS):
        raise UserError(
            f"severity={severity}: of corrupted_cifar10 choose 0 (weakest corruptions) to {LEVELS - 1} (strongest, the "
            "papers' severity4)"
        )
    return severity + 1


def data_key(
    source: Source,
    kind: int,
    skew: float,
    severity: int,
    seed: int,
    placement: str = "blocks",
    panes: Sequence[Tensor] | None = None,
) -> str:
    """Hex digest naming the arrays of `build_arrays` with the same arguments."""
    return key_of(
        builder="corrupted",
        version=VERSION,
        source=source.digest,
        type=kind,
        skew=float(skew),
        severity=severity,
        seed=seed,
        placement=placement,
        # Frost is not part of type 1.
        frost=None if panes is None or kind == 1 else _digest(panes),
    )


def build_arrays(
    source: Source,
    kind: int,
    skew: float,
    severity: int,
    seed: int,
    placement: str = "blocks",
    panes: Sequence[Tensor] | None = None,
    progress: bool = False,
) -> Arrays:
    """Corrupt a source: `skew` of the training images conflict with their class, 90 % of the test images do.

    Returns {train,test}_{images,target,bias,ids}. `seed` draws what is random in a corruption, for the same image of
    the same part always the same; which image gets which corruption does not depend on it. Works on as many threads as
    torch has; their number changes nothing.

    Parameters
    ----------
    kind
        0 or 1, which of `TYPES`.
    severity
        0..4, see `level_of`.
    panes
        Frost photographs, see `frosting.photographs`; None: made textures.

    Raises
    ------
    UserError
        `skew` or `severity` out of range.
    """
    level = level_of(severity)
    corruptions = dict(CORRUPTIONS)
    if panes is not None:
        corruptions["frost"] = partial(frost, panes=panes)
    arrays: Arrays = {}
    for part, images, labels, ids, share in (
        ("train", source.train_images, source.train_labels, source.train_ids, skew),
        ("test", source.test_images, source.test_labels, source.test_ids, TEST_SKEW),
    ):
        bias = assign_bias(labels, share, len(source.names), placement)
        chosen = [corruptions[name] for name in TYPES[kind]]
        arrays[f"{part}_images"] = corrupt(images, bias, chosen, level, f"{part} {kind}", seed, progress)
        arrays[f"{part}_target"], arrays[f"{part}_bias"], arrays[f"{part}_ids"] = labels, bias, ids
    return arrays


def corrupt(
    images: np.ndarray,
    bias: np.ndarray,
    corruptions: Sequence[Corruption],
    level: int,
    use: str,
    seed: int,
    progress: bool = False,
) -> np.ndarray:
    """Give each image the corruption of its bias; `use` names what the random numbers are for.

    images : uint8 [N, 3, 32, 32]; bias : int64 [N], places in `corruptions`; returns uint8 [N, 3, 32, 32].
    """
    corrupted = np.empty_like(images)
    pieces = [
        (number, start, np.flatnonzero(bias == number)[start : start + CHUNK])
        for number in range(len(corruptions))
        for start in range(0, int((bias == number).sum()), CHUNK)
    ]

    def one(piece: tuple[int, int, np.ndarray]) -> int:
        number, start, members = piece
        generator = stream(seed, f"corrupt {use} {number} {start}")
        corrupted[members] = corruptions[number](torch.from_numpy(images[members]), level, generator).numpy()
        return len(members)

    with (
        _workers() as pool,
        tqdm(
            total=len(images), desc=f"corrupting {use.split()[0]}", unit="image", disable=not progress,
            file=sys.__stderr__, leave=False,
        ) as bar,
    ):  # fmt: skip
        for done in pool.map(one, pieces):
            bar.update(done)
    return corrupted


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads that compute with one thread each, instead of the threads that torch would share one operation among."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _digest(panes: Sequence[Tensor]) -> str:
    return digest_of(
        part for pane in panes for part in (f"{list(pane.shape)}".encode(), pane.contiguous().numpy().data)
    )


def as_task(arrays: Arrays, *, name: str, names: tuple[str, ...], kind: int, key: str, reverse: bool) -> Task:
    """Copy the arrays of `build_arrays` into a Task. `reverse`: the corruption is the target, the class the bias."""
    return task_of(
        arrays,
        name=name,
        target_names=names,
        bias_names=TYPES[kind],
        key=key,
        reverse=reverse,
        mean=MEAN,
        std=STD,
    )


def load_files(settings: Mapping[str, Any]) -> Task:
    """The files that LfF's generator wrote, as a task."""
    kind = settings["type"]
    arrays, key = lff_files.read(settings, "lff_cifar10", f"CorruptedCIFAR10-Type{kind}", 32)
    return as_task(
        arrays, name="lff_cifar10", names=CLASSES, kind=kind, key=key_of(arrays=key, type=kind),
        reverse=settings["reverse"],
    )  # fmt: skip


SPECS = (
    DatasetSpec(
        "corrupted_cifar10",
        "CIFAR-10 objects, each tied to an image corruption as by LfF's generator",
        load,
        CIFAR,
        augment="crop_flip",
        settings=("severity", "type", "placement", "frost_dir"),
    ),
    DatasetSpec(
        "lff_cifar10",
        "Corrupted CIFAR-10 from the files that LfF's generator wrote",
        load_files,
        CIFAR,
        augment="crop_flip",
        settings=("severity", "type"),
    ),
)
