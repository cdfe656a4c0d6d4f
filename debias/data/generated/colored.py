"""Coloured digits: every grey image gets a colour tied to its class (generator of LfF, Nam et al. 2020; DeNetDM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from debias.data.cache import Arrays, cached, key_of
from debias.data.generated.tasks import task_of
from debias.data.kinds import COLORED
from debias.data.sources import lff_files
from debias.data.sources.by_name import Read, on_sources, source_of
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.data.spec import DatasetSpec
from debias.data.split import Task
from debias.errors import UserError
from debias.randomness import stream

VERSION = 2
PLACEMENTS = ("blocks", "last")
TEST_SKEW = 0.9
# Spread of the colour by severity 1..5.
SIGMA = (0.05, 0.02, 0.01, 0.005, 0.002)
PALETTE = (
    (0.9837, 0.3125, 0.1686),
    (0.9905, 0.9156, 0.3515),
    (0.6730, 0.4611, 0.5798),
    (0.7833, 0.8316, 0.6013),
    (0.0880, 0.7780, 0.9818),
    (0.3214, 0.9611, 0.4464),
    (0.0246, 0.2357, 0.7587),
    (0.5552, 0.1016, 0.7618),
    (0.2077, 0.3929, 0.0187),
    (0.8337, 0.2024, 0.2669),
)
COLOUR_NAMES = ("orange", "yellow", "mauve", "sage", "sky", "mint", "blue", "purple", "olive", "crimson")
CHUNK = 1000


def assign_bias(target: np.ndarray, skew: float, n_classes: int, placement: str = "blocks") -> np.ndarray:
    """Tie each class to the bias of the same number, but for a share `skew` of conflicting images.

    Of the n images of a class round(n * (1 - skew)) are aligned; the rest are cut evenly over the other biases (sizes
    differ by one at most, the larger ones where the division puts them). Images are handed out in data set order:

    blocks : bias by bias in increasing order, as the released generator of LfF and DeNetDM does; the conflicting images
        of a class stand before and after its aligned ones
    last : the aligned ones first, so that all conflicting images are the last ones of their class

    target : int [N]; returns int64 [N].

    Raises
    ------
    UserError
        `skew` outside [0, 1], or an unknown placement.
    """
    if not 0 <= skew <= 1:
        raise UserError(f"skew={skew}: the share of conflicting training images must be in [0, 1]")
    if placement not in PLACEMENTS:
        raise UserError(f"placement={placement!r}: one of {', '.join(PLACEMENTS)}")
    bias = np.asarray(target, dtype=np.int64).copy()
    for label in range(n_classes):
        members = np.flatnonzero(target == label)
        aligned = round(len(members) * (1 - skew))
        rest = len(members) - aligned
        sizes = np.bincount(np.arange(rest) * (n_classes - 1) // max(rest, 1), minlength=n_classes - 1)
        order = np.delete(np.arange(n_classes), label)
        place = label if placement == "blocks" else 0
        bias[members] = np.repeat(np.insert(order, place, label), np.insert(sizes, place, aligned))
    return bias


def colour_images(grey: np.ndarray, bias: np.ndarray, sigma: float, generator: torch.Generator) -> np.ndarray:
    """Colour grey images: clamp(PALETTE[bias] + sigma * N(0, I_3), 0, 1) * grey, one colour an image.

    grey : uint8 [N, H, W]; bias : int64 [N] in 0..9; returns uint8 [N, 3, H, W], rounded to the nearest.
    """
    mean = torch.tensor(PALETTE)[torch.from_numpy(np.array(bias))]
    colour = (mean + sigma * torch.randn(len(bias), 3, generator=generator)).clamp_(0, 1)
    n, height, width = grey.shape
    images = torch.empty(n, 3, height * width, dtype=torch.uint8)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        light = torch.from_numpy(grey[part].astype(np.float32)).view(-1, 1, height * width)
        images[part] = (light * colour[part].unsqueeze(2)).round_()
    return images.view(n, 3, height, width).numpy()


def data_key(source: Source, skew: float, severity: int, seed: int, placement: str = "blocks") -> str:
    """Hex digest naming the arrays of `build_arrays` with the same arguments."""
    return key_of(
        builder="colored",
        version=VERSION,
        source=source.digest,
        skew=float(skew),
        severity=severity,
        seed=seed,
        placement=placement,
    )


def build_arrays(source: Source, skew: float, severity: int, seed: int, placement: str = "blocks") -> Arrays:
    """Colour a source: `skew` of the training images conflict with their class, 90 % of the test images do.

    Returns {train,test}_{images,target,bias,ids}. `seed` draws the colour noise, of each part on its own; which image
    gets which colour does not depend on it.

    Raises
    ------
    UserError
        `skew` outside [0, 1] or `severity` outside 1..5.
    """
    if severity not in range(1, len(SIGMA) + 1):
        raise UserError(f"severity={severity}: choose 1 (widest spread of a colour) to {len(SIGMA)} (narrowest)")
    arrays = {}
    for part, images, labels, ids, share in (
        ("train", source.train_images, source.train_labels, source.train_ids, skew),
        ("test", source.test_images, source.test_labels, source.test_ids, TEST_SKEW),
    ):
        bias = assign_bias(labels, share, len(source.names), placement)
        noise = stream(seed, f"colour {part}")
        arrays[f"{part}_images"] = colour_images(images, bias, SIGMA[severity - 1], noise)
        arrays[f"{part}_target"], arrays[f"{part}_bias"], arrays[f"{part}_ids"] = labels, bias, ids
    return arrays


def as_task(arrays: Arrays, *, name: str, names: tuple[str, ...], key: str, reverse: bool) -> Task:
    """Copy the arrays of `build_arrays` into a Task. `reverse`: the colour is the target, the class the bias."""
    return task_of(
        arrays,
        name=name,
        target_names=names,
        bias_names=COLOUR_NAMES,
        key=key,
        reverse=reverse,
        bias_colours=torch.tensor(PALETTE),
    )


def load(settings: Mapping[str, Any], name: str, read: Read) -> Task:
    """The task that complete settings describe, built where it is not in the cache."""
    source = source_of(settings, read)
    made = tuple(settings[field] for field in ("skew", "severity", "seed", "placement"))
    key = data_key(source, *made)
    arrays = cached(settings["cache_dir"], name, key, lambda: build_arrays(source, *made))
    return as_task(arrays, name=name, names=source.names, key=key, reverse=settings["reverse"])


def load_files(settings: Mapping[str, Any]) -> Task:
    """The files that LfF's generator wrote, as a task."""
    arrays, key = lff_files.read(settings, "lff_mnist", "ColoredMNIST", 28)
    return as_task(arrays, name="lff_mnist", names=MNIST_NAMES, key=key, reverse=settings["reverse"])


SPECS = (
    *on_sources(COLORED, load, "{}, each tied to a colour as by LfF's generator"),
    DatasetSpec(
        "lff_mnist",
        "Colored MNIST from the files that LfF's generator wrote",
        load_files,
        replace(COLORED, settings=("severity",)),
    ),
)
