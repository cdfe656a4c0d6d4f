"""Data sets that are image files, by name: from settings to a Task."""

from __future__ import annotations

from pathlib import Path

from debias.data import kinds
from debias.data.photos import own
from debias.data.photos.celeba import FOLDER, celeba
from debias.data.photos.folders import CIFAR, IMAGENET, Settings, folder_task
from debias.data.photos.layouts import BAR_NAMES, DIGITS, bar, ensemble_bar, find, pairs
from debias.data.preparation import Preparation
from debias.data.sources.cifar_files import CLASSES
from debias.data.spec import DatasetSpec
from debias.data.split import Task
from debias.errors import UserError

# Sides of images that were made beforehand.
DISENT_MNIST, DISENT_CIFAR10 = 28, 32
_SHARES = ("0.5pct", "1pct", "2pct", "5pct")
_TEN = tuple(str(number) for number in range(10))


def _own_valid(settings: Settings) -> bool:
    """Whether the validation images that a data set brings are used: held-out training images take their place."""
    return settings["own_valid"] and not settings["valid_fraction"]


def load_bffhq(settings: Settings) -> Task:
    """BFFHQ (Kim et al., ICCV 2021): target age, bias gender; young women and old men are aligned."""
    files = find(
        settings["data_dir"], "bffhq", ("bffhq", "BFFHQ"), ("0.5pct", "train/align"),
        "0.5pct/{align,conflict}, valid and test (DisEnt's archive), or train/{align,conflict} and test",
    )  # fmt: skip
    listing = pairs(
        files, "bffhq", settings["skew"], Preparation(settings["image_size"], "stretch"),
        ("young", "old"), ("female", "male"), valid=_own_valid(settings),
    )  # fmt: skip
    return folder_task("bffhq", listing, settings, CIFAR)


def load_disent_mnist(settings: Settings) -> Task:
    """DisEnt's Colored MNIST (Lee et al., NeurIPS 2021), made beforehand, without normalisation."""
    files = find(settings["data_dir"], "disent_mnist", ("disent_mnist", "cmnist"), _SHARES, "DisEnt's archive cmnist")
    names = tuple(f"colour {number}" for number in _TEN)
    listing = pairs(
        files, "disent_mnist", settings["skew"], Preparation(DISENT_MNIST, "stretch"), DIGITS, names,
        valid=_own_valid(settings),
    )  # fmt: skip
    return folder_task("disent_mnist", listing, settings, None)


def load_disent_cifar10(settings: Settings) -> Task:
    """DisEnt's Corrupted CIFAR-10 (Lee et al., NeurIPS 2021), made beforehand."""
    files = find(
        settings["data_dir"], "disent_cifar10", ("disent_cifar10", "cifar10c"), _SHARES, "DisEnt's archive cifar10c"
    )
    names = tuple(f"corruption {number}" for number in _TEN)
    listing = pairs(
        files, "disent_cifar10", settings["skew"], Preparation(DISENT_CIFAR10, "stretch"), CLASSES, names,
        valid=_own_valid(settings),
    )  # fmt: skip
    return folder_task("disent_cifar10", listing, settings, CIFAR)


def load_celeba(settings: Settings) -> Task:
    """CelebA (Liu et al., ICCV 2015): target blond hair, bias gender."""
    files = find(
        settings["data_dir"], "celeba", ("celeba", "celebA", "CelebA"), (FOLDER, f"{FOLDER}.zip"),
        f"{FOLDER} (or {FOLDER}.zip), list_attr_celeba.txt and list_eval_partition.txt",
    )  # fmt: skip
    labels = settings["labels"]
    if labels is not None:
        labels = next((path for path in (files.root / labels, Path(labels)) if path.is_file()), Path(labels))
    listing = celeba(
        files, settings["image_size"], settings["skew"], settings["seed"],
        labels=labels, valid=_own_valid(settings),
    )  # fmt: skip
    return folder_task("celeba", listing, settings, IMAGENET)


def load_bar(settings: Settings) -> Task:
    """BAR, biased action recognition (Nam et al., NeurIPS 2020): all test images are conflicting, no bias labels."""
    files = find(settings["data_dir"], "bar", ("bar", "BAR"), ("train/climbing_0.jpg",), "train/ and test/ of BAR")
    return folder_task("bar", bar(files, Preparation(settings["image_size"])), settings, IMAGENET)


def load_ensemble_bar(settings: Settings) -> Task:
    """BAR with a chosen share of conflicting training images (Lee et al., AAAI 2023, BiasEnsemble)."""
    files = find(
        settings["data_dir"], "ensemble_bar", ("ensemble_bar", "bar", "BAR"), ("train/align",),
        "train/align, train/conflict/{1pct,5pct} and test (BiasEnsemble's archive)",
    )  # fmt: skip
    preparation = Preparation(settings["image_size"], "stretch")
    listing = ensemble_bar(files, settings["skew"], preparation, valid=_own_valid(settings))
    return folder_task("ensemble_bar", listing, settings, CIFAR)


def load_own(settings: Settings) -> Task:
    """The user's own images: class folders, or a CSV named by `labels`."""
    labels = settings["labels"]
    preparation = Preparation(settings["image_size"], settings["framing"])
    test_fraction, valid = settings["test_fraction"], _own_valid(settings)
    # The variable DATA_DIR is where published data sets are; the user's own images are only where the setting says.
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
        outside = settings["outside"]
        listing = own.labelled(root, labels, preparation, test_fraction, valid=valid, outside=outside)
    return folder_task("own_images", listing, settings, IMAGENET, every_class=True)


SPECS = (
    DatasetSpec(
        "bffhq",
        "faces, young or old, age tied to gender",
        load_bffhq,
        kinds.PHOTOGRAPHS,
        augment="crop_flip",
        defaults={"skew": 0.005},
    ),
    DatasetSpec(
        "celeba",
        "faces, blond or not, tied to gender; few conflicting images are drawn by seed",
        load_celeba,
        kinds.PHOTOGRAPHS,
        augment="portrait_crop_flip",
        settings=("labels",),
        defaults={
            "skew": 0.01,
            "branches.deep": "resnet18_imagenet",
            # DCWP's script for CelebA.
            "mine_gce.batch_size": 128,
            "mine_gce.learning_rate": 1e-4,
            "prune.batch_size": 128,
            "prune.sparsity_weight": 5e-6,
            "finetune.batch_size": 128,
            "finetune.upweight": 20.0,
        },
        quick={"branches.deep": "resnet18"},
    ),
    DatasetSpec(
        "bar",
        f"photographs of {len(BAR_NAMES)} actions tied to places; no bias labels",
        load_bar,
        kinds.PHOTOGRAPHS,
        has_skew=False,
        augment="resized_crop_flip",
    ),
    DatasetSpec(
        "ensemble_bar",
        "BAR as BiasEnsemble's archive has it, with 1 % or 5 % of conflicting training images",
        load_ensemble_bar,
        kinds.PHOTOGRAPHS,
        augment="crop_flip",
        defaults={"skew": 0.01},
    ),
    DatasetSpec("disent_mnist", "Colored MNIST as DisEnt's archive has it", load_disent_mnist, kinds.DIGIT_FILES),
    DatasetSpec(
        "disent_cifar10",
        "Corrupted CIFAR-10 as DisEnt's archive has it",
        load_disent_cifar10,
        kinds.CIFAR,
        augment="crop_flip",
        settings=("bad_files", "duplicates", "own_valid", "streaming"),
    ),
    DatasetSpec(
        "own_images",
        "your images: class folders, or labels=FILE.csv",
        load_own,
        kinds.PHOTOGRAPHS,
        has_skew=False,
        augment="resized_crop_flip",
        settings=("labels", "framing", "outside", "test_fraction"),
        defaults={"own_valid": True, "duplicates": "stop", "features": "auto"},
    ),
)
