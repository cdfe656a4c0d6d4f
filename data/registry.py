"""The data sets by name, and the way from settings to a `Task`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.cache import cached, key_of
from data.generated import biased, bimodal, colored, corrupted, jitter
from data.photos.imagesets import IMAGE_SETS
from data.sources.digits import digits
from data.sources.idx import MNIST_NAMES, Source, fashion_mnist, mnist
from data.sources.released_jitter import find_file, read_released
from data.split import Task, hold_out
from errors import UserError
from settings import SOURCES

Settings = Mapping[str, Any]
Read = Callable[[str | None, Path], Source]


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: `load` makes its Task, without hold-out, from settings.

    has_skew : whether the setting `skew` chooses its share of conflicting training images
    """

    name: str
    summary: str
    load: Callable[[Settings], Task]
    has_skew: bool = True


def load_task(settings: Settings) -> Task:
    """Load the data set that `settings` describe, from the cache where it was built before.

    settings : mapping with
        dataset (name in `DATASETS`), data_dir (folder with source files; None: environment variable DATA_DIR),
        cache_dir, skew (share of conflicting training images),
        severity (1..5; of corruptions 0..4), type (0 or 1, of corruptions), placement (optional: blocks or last),
        frost_dir (optional: folder of photographs, of corruptions), reverse (exchange target and bias),
        valid_fraction (share of the training images held out, [0, 1)), seed, limit (None, or keep so many random
        training images and limit // 6 test images before any bias is assigned), n_confusing_labels and validation
        (optional, of biased_*: colours of conflicting images; unbiased, overlapping or biased validation images),
        augment (optional: name of an augmentation, or none), and those of `data.photos.folders.folder_task`

    Tensors are on the CPU.

    Raises
    ------
    UserError
        An unknown data set, a setting out of range, sources missing or damaged, an unwritable cache.
    """
    name = settings["dataset"]
    spec = DATASETS.get(name)
    if spec is None:
        near = get_close_matches(str(name), DATASETS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"dataset={name!r} is unknown{hint}; available: {available()}")
    task = _augmented(spec.load(settings), settings.get("augment"))
    fraction, seed = settings["valid_fraction"], settings["seed"]
    if fraction == 0 or task.valid is not None:
        return task
    train, valid = hold_out(task.train, fraction, seed)
    key = key_of(data=task.key, valid_fraction=fraction, seed=seed)
    return replace(task, train=train, valid=valid, key=key, selection="valid")


def _augmented(task: Task, augment: str | None) -> Task:
    """The task with the augmentation a person chose; None leaves the data set's own."""
    if augment is None or (task.augment or "none") == augment:
        return task
    return replace(task, augment=None if augment == "none" else augment, key=key_of(data=task.key, augment=augment))


def available() -> str:
    """Names of the data sets that can be loaded, for messages."""
    return ", ".join(DATASETS)


def _load_colored(settings: Settings, name: str, read: Callable[[str | None, Path], Source]) -> Task:
    cache_dir = Path(settings["cache_dir"])
    skew, severity, seed, limit = (settings[field] for field in ("skew", "severity", "seed", "limit"))
    source = read(settings["data_dir"] or os.environ.get("DATA_DIR") or None, cache_dir)
    if limit is not None:
        source = source.limited(limit, seed)
    placement = settings.get("placement", "blocks")
    key = colored.data_key(source, skew, severity, seed, placement)
    arrays = cached(cache_dir, name, key, lambda: colored.build_arrays(source, skew, severity, seed, placement))
    return colored.as_task(arrays, name=name, names=source.names, key=key, reverse=settings["reverse"])


def _load_biased(settings: Settings, name: str, read: Callable[[str | None, Path], Source]) -> Task:
    cache_dir = Path(settings["cache_dir"])
    skew, seed, limit, fraction = (settings[field] for field in ("skew", "seed", "limit", "valid_fraction"))
    confusing, validation = settings.get("n_confusing_labels", 9), settings.get("validation", "unbiased")
    # Without the rounding 1 - .003 could fall short of .997, and of a whole number of images with it.
    rho = round(1 - skew, 12)
    source = read(settings["data_dir"] or os.environ.get("DATA_DIR") or None, cache_dir)
    if limit is not None:
        source = source.limited(limit, seed)
    made = (rho, confusing, seed, validation, fraction)
    key = biased.data_key(source, *made)
    arrays = cached(cache_dir, name, key, lambda: biased.build_arrays(source, *made))
    reverse = settings["reverse"]
    return biased.as_task(arrays, name=name, names=source.names, key=key, reverse=reverse, validation=validation)


def _source(settings: Settings, read: Read) -> Source:
    source = read(settings["data_dir"] or os.environ.get("DATA_DIR") or None, Path(settings["cache_dir"]))
    return source if settings["limit"] is None else source.limited(settings["limit"], settings["seed"])


def _load_jitter(settings: Settings, name: str, read: Read) -> Task:
    source = _source(settings, read)
    skew, seed = settings["skew"], settings["seed"]
    variance, palette = settings.get("variance", 0.03), settings.get("palette", "jitter")
    key = jitter.data_key(source, skew, variance, palette, seed)
    arrays = cached(
        settings["cache_dir"], name, key, lambda: jitter.build_arrays(source, skew, variance, palette, seed)
    )
    return jitter.as_task(arrays, name=name, names=source.names, key=key, reverse=settings["reverse"], palette=palette)


def _load_jitter_released(settings: Settings) -> Task:
    folder = Path(settings["data_dir"] or os.environ.get("DATA_DIR") or ".")
    path = find_file(folder, settings.get("variance", 0.03))
    found = read_released(path)
    colours = jitter.palette_colours("jitter", 0)
    arrays = {"colours": colours.numpy(), "grey_images": found["test_gray"][:, None].repeat(3, axis=1)}
    for part in ("train", "test"):
        count = settings["limit"] if part == "train" else None if settings["limit"] is None else settings["limit"] // 6
        images = np.ascontiguousarray(found[f"{part}_image"][:count].transpose(0, 3, 1, 2))
        arrays |= {f"{part}_images": images, f"{part}_target": found[f"{part}_label"][:count]}
        arrays |= {f"{part}_ids": np.arange(len(images)), f"{part}_bias": jitter.nearest_colour(images, colours)}
    arrays["grey_images"] = arrays["grey_images"][: len(arrays["test_ids"])]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = key_of(builder="jitter released", version=jitter.VERSION, file=digest, limit=settings["limit"])
    return jitter.as_task(
        arrays,
        name="jitter_released",
        names=MNIST_NAMES,
        key=key,
        reverse=settings["reverse"],
        palette="jitter",
    )


def _load_bimodal(settings: Settings, name: str, read: Read) -> Task:
    if settings["reverse"]:
        raise UserError(f"{name}: the colour is a vector beside the image and cannot be the target; leave out reverse")
    source = _source(settings, read)
    skew, std, seed = settings["skew"], settings.get("colour_std", 0.1), settings["seed"]
    key = bimodal.data_key(source, skew, std, seed)
    arrays = cached(settings["cache_dir"], name, key, lambda: bimodal.build_arrays(source, skew, std, seed))
    return bimodal.as_task(arrays, name=name, names=source.names, key=key)


def _read_digits(data_dir: str | None, cache_dir: Path) -> Source:
    return digits(cache_dir)


def _colored(name: str, summary: str, read: Callable[[str | None, Path], Source]) -> DatasetSpec:
    return DatasetSpec(name, summary, partial(_load_colored, name=name, read=read))


def _biased(name: str, summary: str, read: Callable[[str | None, Path], Source]) -> DatasetSpec:
    return DatasetSpec(name, summary, partial(_load_biased, name=name, read=read))


def _on_sources(kind: str, load: Callable[..., Task], summary: str) -> tuple[DatasetSpec, ...]:
    """One kind of bias on each of the three sources."""
    sources = dict(
        zip(
            SOURCES,
            (
                ("MNIST digits", mnist),
                ("Fashion-MNIST garments", fashion_mnist),
                ("embedded handwritten digits", _read_digits),
            ),
            strict=True,
        )
    )
    return tuple(
        DatasetSpec(f"{kind}_{source}", summary.format(what), partial(load, name=f"{kind}_{source}", read=read))
        for source, (what, read) in sources.items()
    )


_BUILT = (
    _colored("colored_mnist", "MNIST digits, each tied to a colour", mnist),
    _colored("colored_fashion", "Fashion-MNIST garments, each tied to a colour", fashion_mnist),
    _colored("colored_digits", "embedded handwritten digits, each tied to a colour; no download", _read_digits),
    _biased("biased_mnist", "white MNIST digits, each tied to a background colour", mnist),
    _biased("biased_fashion", "white Fashion-MNIST garments, each tied to a background colour", fashion_mnist),
    _biased("biased_digits", "white embedded digits, each tied to a background colour; no download", _read_digits),
    DatasetSpec("corrupted_cifar10", "CIFAR-10 objects, each tied to an image corruption", corrupted.load),
    *_on_sources("jitter", _load_jitter, "{}, flat, each in a colour near the one its class is tied to"),
    DatasetSpec(
        "jitter_released",
        "the published files of jitter_mnist, read from data_dir; colours named by the nearest mean",
        _load_jitter_released,
        has_skew=False,
    ),
    *_on_sources("bimodal", _load_bimodal, "grey {}, and beside each image a colour tied to its class"),
)
# Their shares of conflicting images are what they are; no setting chooses them.
_FIXED = ("bar", "own_images")
_IMAGES = tuple(
    DatasetSpec(name, summary, load, has_skew=name not in _FIXED) for name, (summary, load) in IMAGE_SETS.items()
)
DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (*_BUILT, *_IMAGES)}
