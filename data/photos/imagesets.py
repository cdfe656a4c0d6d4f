"""Data sets that are image files, by name: from settings to a Task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.photos import own
from data.photos.celeba import FOLDER, celeba
from data.photos.folders import CIFAR, IMAGENET, Normalisation, Settings, folder_task
from data.photos.layouts import BAR_NAMES, CIFAR_NAMES, DIGITS, bar, find, pairs
from data.photos.listing import Listing
from data.preparation import Preparation
from data.split import Task
from errors import UserError

# Side of the images when the settings do not say it, and the augmentation of training batches.
SIZES = {"bffhq": 224, "celeba": 224, "bar": 224, "own_images": 224, "disent_mnist": 28, "disent_cifar10": 32}
PHOTOS = ("bffhq", "celeba", "bar", "own_images")
AUGMENT = {
    "bffhq": "crop_flip",
    "celeba": "portrait_crop_flip",
    "bar": "resized_crop_flip",
    "own_images": "resized_crop_flip",
    "disent_cifar10": "crop_flip",
}
_SHARES = ("0.5pct", "1pct", "2pct", "5pct")
_TEN = tuple(str(number) for number in range(10))


def _data_dir(settings: Settings) -> str | None:
    return settings["data_dir"] or os.environ.get("DATA_DIR") or None


def _size(settings: Settings, name: str) -> int:
    return settings.get("image_size") or SIZES[name]


def _own_valid(settings: Settings, default: bool = False) -> bool:
    """Whether the validation images that a data set brings are used: held-out training images take their place."""
    return settings.get("own_valid", default) and not settings["valid_fraction"]


def _task(name: str, listing: Listing, settings: Settings, normalise: Normalisation) -> Task:
    return folder_task(name, listing, settings, normalise, AUGMENT.get(name), every_class=name == "own_images")


def load_bffhq(settings: Settings) -> Task:
    """BFFHQ (Kim et al., ICCV 2021): target age, bias gender; young women and old men are aligned."""
    files = find(
        _data_dir(settings), "bffhq", ("bffhq", "BFFHQ"), ("0.5pct", "train/align"),
        "0.5pct/{align,conflict}, valid and test (DisEnt's archive), or train/{align,conflict} and test",
    )  # fmt: skip
    listing = pairs(
        files, "bffhq", settings["skew"], Preparation(_size(settings, "bffhq"), "stretch"),
        ("young", "old"), ("female", "male"), valid=_own_valid(settings),
    )  # fmt: skip
    return _task("bffhq", listing, settings, CIFAR)


def load_disent_mnist(settings: Settings) -> Task:
    """DisEnt's Colored MNIST (Lee et al., NeurIPS 2021), made beforehand, without normalisation."""
    files = find(_data_dir(settings), "disent_mnist", ("disent_mnist", "cmnist"), _SHARES, "DisEnt's archive cmnist")
    names = tuple(f"colour {number}" for number in _TEN)
    listing = pairs(
        files, "disent_mnist", settings["skew"], Preparation(SIZES["disent_mnist"], "stretch"), DIGITS, names,
        valid=_own_valid(settings),
    )  # fmt: skip
    return _task("disent_mnist", listing, settings, None)


def load_disent_cifar10(settings: Settings) -> Task:
    """DisEnt's Corrupted CIFAR-10 (Lee et al., NeurIPS 2021), made beforehand."""
    files = find(
        _data_dir(settings), "disent_cifar10", ("disent_cifar10", "cifar10c"), _SHARES, "DisEnt's archive cifar10c"
    )
    names = tuple(f"corruption {number}" for number in _TEN)
    listing = pairs(
        files, "disent_cifar10", settings["skew"], Preparation(SIZES["disent_cifar10"], "stretch"), CIFAR_NAMES, names,
        valid=_own_valid(settings),
    )  # fmt: skip
    return _task("disent_cifar10", listing, settings, CIFAR)


def load_celeba(settings: Settings) -> Task:
    """CelebA (Liu et al., ICCV 2015): target blond hair, bias gender."""
    files = find(
        _data_dir(settings), "celeba", ("celeba", "celebA", "CelebA"), (FOLDER, f"{FOLDER}.zip"),
        f"{FOLDER} (or {FOLDER}.zip), list_attr_celeba.txt and list_eval_partition.txt",
    )  # fmt: skip
    labels = settings.get("labels")
    if labels is not None:
        labels = next((path for path in (files.root / labels, Path(labels)) if path.is_file()), Path(labels))
    listing = celeba(
        files, _size(settings, "celeba"), settings["skew"], settings["seed"],
        labels=labels, valid=_own_valid(settings),
    )  # fmt: skip
    return _task("celeba", listing, settings, IMAGENET)


def load_bar(settings: Settings) -> Task:
    """BAR, biased action recognition (Nam et al., NeurIPS 2020): all test images are conflicting, no bias labels."""
    files = find(_data_dir(settings), "bar", ("bar", "BAR"), ("train/climbing_0.jpg",), "train/ and test/ of BAR")
    return _task("bar", bar(files, Preparation(_size(settings, "bar"))), settings, IMAGENET)


def load_own(settings: Settings) -> Task:
    """A person's own images: class folders, or a CSV named by `labels`."""
    labels = settings.get("labels")
    preparation = Preparation(_size(settings, "own_images"), settings.get("framing", "crop"))
    test_fraction, valid = settings.get("test_fraction", 0.2), _own_valid(settings, True)
    # The variable DATA_DIR is where published data sets are; a person's own images are only where the setting says.
    data_dir = settings["data_dir"]
    if data_dir is None and labels is None:
        raise UserError("own_images needs data_dir=FOLDER with a folder for each class, or labels=FILE.csv as well")
    root = None if data_dir is None else Path(data_dir)
    if root is not None and not root.exists():
        raise UserError(f"data_dir={data_dir}: there is no such folder")
    if labels is None:
        assert root is not None
        listing = own.class_folders(root, preparation, test_fraction, valid)
    else:
        outside = settings.get("outside", False)
        listing = own.labelled(root, labels, preparation, test_fraction, valid=valid, outside=outside)
    return _task("own_images", listing, settings, IMAGENET)


Load = Callable[[Any], Task]
IMAGE_SETS: dict[str, tuple[str, Load]] = {
    "bffhq": ("faces, young or old, age tied to gender", load_bffhq),
    "celeba": ("faces, blond or not, tied to gender; few conflicting images are drawn by seed", load_celeba),
    "bar": (f"photographs of {len(BAR_NAMES)} actions tied to places; no bias labels", load_bar),
    "disent_mnist": ("Colored MNIST as DisEnt's archive has it", load_disent_mnist),
    "disent_cifar10": ("Corrupted CIFAR-10 as DisEnt's archive has it", load_disent_cifar10),
    "own_images": ("your images: class folders, or labels=FILE.csv", load_own),
}
