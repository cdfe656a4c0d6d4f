"""Biased MNIST: white digits on a background in a colour tied to the class (generator of ReBias, ICML 2020; EnD)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from debias.data import kinds
from debias.data.cache import Arrays, cached, key_of
from debias.data.generated.tasks import task_of
from debias.data.sources.by_name import Read, on_sources, source_of
from debias.data.sources.idx import Source
from debias.data.split import Task, stratified_choice
from debias.errors import UserError
from debias.randomness import stream

VERSION = 1
# How validation images are made -> what selecting an epoch on them is called.
VALIDATIONS = {"unbiased": "valid_unbiased", "overlapping": "valid_overlapping", "biased": "valid"}
# Share of images in their class's own colour: as many in each of ten colours, and all of them.
UNBIASED, BIASED = 0.1, 1.0
WHITE = (255, 255, 255)
PALETTE = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (225, 225, 0),
    (225, 0, 225),
    (0, 255, 255),
    (255, 128, 0),
    (255, 0, 128),
    (128, 0, 255),
    (128, 128, 128),
)
COLOUR_NAMES = ("red", "green", "blue", "yellow", "magenta", "cyan", "orange", "pink", "violet", "grey")
CHUNK = 2000


def assign_colours(
    target: np.ndarray, rho: float, n_confusing_labels: int, n_classes: int, generator: torch.Generator
) -> np.ndarray:
    """Give floor(rho * n) of the n images of a class its own colour, and the others those of the classes after it.

    The images of a class are shuffled. Its m conflicting ones are cut into chunks of ceil(m / n_confusing_labels) that
    go to the colours of the next n_confusing_labels classes (mod n_classes), so with a small m the last of these
    colours get fewer images or none.

    target : int [N]; returns int64 [N].

    Raises
    ------
    UserError
        `rho` outside [0, 1], or `n_confusing_labels` outside 1..n_classes - 1.
    """
    if not 0 <= rho <= 1:
        raise UserError(f"rho={rho}: the share of training images in their class's colour must be in [0, 1]")
    if not 1 <= n_confusing_labels < n_classes:
        raise UserError(f"n_confusing_labels={n_confusing_labels}: a whole number from 1 to {n_classes - 1}")
    bias = np.empty(len(target), dtype=np.int64)
    for label in range(n_classes):
        members = np.flatnonzero(target == label)
        members = members[torch.randperm(len(members), generator=generator).numpy()]
        aligned = int(len(members) * rho)
        rest = len(members) - aligned
        chunk = max(1, -(-rest // n_confusing_labels))
        bias[members[:aligned]] = label
        bias[members[aligned:]] = (label + 1 + np.arange(rest) // chunk) % n_classes
    return bias


def paint(grey: np.ndarray, bias: np.ndarray, palette: tuple[tuple[int, int, int], ...] = PALETTE) -> np.ndarray:
    """Make every pixel that is not 0 white, and every other one palette[bias]: one flat background an image.

    grey : uint8 [N, H, W]; bias : int64 [N]; returns uint8 [N, 3, H, W].

    Raises
    ------
    UserError
        A background is white, so that its digits could not be seen, or two backgrounds are equal, so that the bias
        could not.
    """
    colours = [tuple(colour) for colour in palette]
    if WHITE in colours:
        raise UserError(f"background {colours.index(WHITE)} is white as the digits are: they could not be seen on it")
    for number, colour in enumerate(colours):
        if colour in colours[:number]:
            raise UserError(f"backgrounds {colours.index(colour)} and {number} are both {colour}: give each its own")
    images = np.empty((len(grey), 3, *grey.shape[1:]), dtype=np.uint8)
    backgrounds = np.array(colours, dtype=np.uint8)[bias][:, :, None, None]
    for start in range(0, len(grey), CHUNK):
        part = slice(start, start + CHUNK)
        images[part] = np.where(grey[part, None] != 0, np.uint8(255), backgrounds[part])
    return images


def data_key(
    source: Source, rho: float, n_confusing_labels: int, seed: int, validation: str, valid_fraction: float
) -> str:
    """Hex digest naming the arrays of `build_arrays` with the same arguments."""
    return key_of(
        builder="biased",
        version=VERSION,
        source=source.digest,
        rho=float(rho),
        n_confusing_labels=n_confusing_labels,
        seed=seed,
        validation=validation,
        valid_fraction=float(valid_fraction),
    )


def build_arrays(
    source: Source, rho: float, n_confusing_labels: int, seed: int, validation: str, valid_fraction: float
) -> Arrays:
    """Colour a source: training images at `rho`; test images once at .1 (`test`) and once at 1 (`biased`).

    With `valid_fraction` > 0 validation images at .1 are made too: of digits that are taken from the training set
    (`validation` unbiased), or of training digits that stay in it (overlapping, as published). With validation=biased
    none are made here: they are to be held out of the coloured training images.

    Returns {train,test,biased[,valid]}_{images,target,bias,ids}. `seed` draws which images of a class conflict and
    which are for validation.

    Raises
    ------
    UserError
        A setting out of range, or a `valid_fraction` that leaves either part without images.
    """
    if validation not in VALIDATIONS:
        raise UserError(f"validation={validation!r}: one of {', '.join(VALIDATIONS)}")
    train, test = np.arange(len(source.train_labels)), np.arange(len(source.test_labels))
    parts = {"test": (test, UNBIASED, 9), "biased": (test, BIASED, 9)}
    if valid_fraction and validation != "biased":
        target = torch.from_numpy(source.train_labels.astype(np.int64))
        held = stratified_choice(target, valid_fraction, stream(seed, "hold-out")).numpy()
        parts["valid"] = (train[held], UNBIASED, 9)
        train = train if validation == "overlapping" else train[~held]
        if min(len(train), len(parts["valid"][0])) == 0:
            raise UserError(f"valid_fraction={valid_fraction} of {len(held)} images leaves a part empty")
    parts["train"] = (train, rho, n_confusing_labels)
    arrays = {}
    for part, (chosen, share, confusing) in parts.items():
        tested = part in ("test", "biased")
        images, labels, ids = (
            (source.test_images, source.test_labels, source.test_ids)
            if tested
            else (source.train_images, source.train_labels, source.train_ids)
        )
        bias = assign_colours(labels[chosen], share, confusing, len(source.names), stream(seed, f"background {part}"))
        arrays[f"{part}_images"] = paint(images[chosen], bias)
        arrays[f"{part}_target"], arrays[f"{part}_bias"] = labels[chosen].astype(np.int64), bias
        arrays[f"{part}_ids"] = ids[chosen]
    return arrays


def as_task(
    arrays: Arrays, *, name: str, names: tuple[str, ...], key: str, reverse: bool, validation: str = "unbiased"
) -> Task:
    """Copy the arrays of `build_arrays` into a Task. `reverse`: the colour is the target, the class the bias."""
    return task_of(
        arrays,
        name=name,
        target_names=names,
        bias_names=COLOUR_NAMES,
        key=key,
        reverse=reverse,
        bias_colours=torch.tensor(PALETTE) / 255,
        extra=("biased",),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        selection=VALIDATIONS[validation],
    )


def load(settings: Mapping[str, Any], name: str, read: Read) -> Task:
    """The task that complete settings describe, built where it is not in the cache."""
    source, validation = source_of(settings, read), settings["validation"]
    # Without the rounding 1 - .003 could fall short of .997, and of a whole number of images with it.
    rho = round(1 - settings["skew"], 12)
    made = (rho, settings["n_confusing_labels"], settings["seed"], validation, settings["valid_fraction"])
    key = data_key(source, *made)
    arrays = cached(settings["cache_dir"], name, key, lambda: build_arrays(source, *made))
    reverse = settings["reverse"]
    return as_task(arrays, name=name, names=source.names, key=key, reverse=reverse, validation=validation)


SPECS = on_sources(kinds.BIASED, load, "white {}, each tied to a background colour")
