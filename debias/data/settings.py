"""The settings that say which data a run has, how it is made, and where its files are; and their one resolution."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from debias.data.augment import AUGMENTATIONS
from debias.data.generated.biased import VALIDATIONS
from debias.data.generated.colored import PLACEMENTS
from debias.data.generated.jitter import PALETTES
from debias.data.mapped import STREAMING
from debias.data.preparation import FRAMINGS
from debias.data.registry import DATASETS
from debias.settings import Setting

DATA_SETTINGS: dict[str, Setting] = {
    "dataset": Setting("colored_mnist", "data set", choices=tuple(DATASETS), role="data"),
    "skew": Setting(0.05, "share of conflicting training images", low=0.0, high=1.0, role="data"),
    "rho": Setting(
        None, "share of aligned training images, 1 - skew; None: as skew says", low=0.0, high=1.0,
        optional=True, kind=float, role="view",
    ),
    "reverse": Setting(False, "exchange target and bias", role="data", told=True),
    "limit": Setting(
        None, "use only this many training images (and a sixth as many test images)",
        low=60, optional=True, kind=int, role="data", told=True,
    ),
    "valid_fraction": Setting(
        0.0, "share of training images held out for the selection `valid`", low=0.0, high=0.9,
    ),
    "augment": Setting(
        None, "random changes of training images; None: the data set's own", choices=("none", *AUGMENTATIONS),
        optional=True, kind=str,
    ),
    # Colored and corrupted data.
    "severity": Setting(
        4, "colored_*: 1 (colours vary most) to 5 (least); corrupted_cifar10: 0 (weakest corruptions) to 4 (strongest)",
        low=0, high=5, role="data", told=True,
    ),
    "placement": Setting(
        "blocks",
        "which images of a class conflict: blocks, as in the released generator, or its last ones",
        choices=PLACEMENTS, role="data", told=True,
    ),
    "type": Setting(0, "which ten corruptions Corrupted CIFAR-10 uses", choices=(0, 1), role="data"),
    "frost_dir": Setting(
        None, "folder of frost photographs for Corrupted CIFAR-10; None: generated frost",
        optional=True, kind=str, role="data",
    ),
    # Biased, jitter and bimodal digits.
    "n_confusing_labels": Setting(
        9, "how many other colours the conflicting training images of a class of biased_* get",
        low=1, high=9, role="data",
    ),
    "validation": Setting(
        "unbiased",
        "validation images of biased_*: held out and coloured without bias, training images coloured again without "
        "bias (overlapping, as published), or held out with the bias they have",
        choices=tuple(VALIDATIONS), role="data",
    ),
    "variance": Setting(0.03, "variance sigma^2 of the colours of jitter_*", low=0.0, high=1.0, role="data"),
    "palette": Setting(
        "jitter", "mean colours of jitter_*: its own, those of colored_mnist, or random ones",
        choices=PALETTES, role="data",
    ),
    "colour_std": Setting(0.1, "spread of the colours of bimodal_*", low=0.0, high=1.0, role="data"),
    # Image files.
    "image_size": Setting(
        None, "side of the images in pixels, for bffhq, celeba, bar and own_images",
        low=8, high=1024, optional=True, kind=int, role="data",
    ),
    "framing": Setting(
        "crop", "how photographs of own_images become squares: their middle, stretched, or whole with black bars",
        choices=FRAMINGS, role="data",
    ),
    "labels": Setting(
        None, "a CSV of own_images (path, target, and optionally bias, split), or the metadata CSV of celeba",
        optional=True, kind=str, role="data",
    ),
    "outside": Setting(False, "whether paths in `labels` may lead out of data_dir", role="data"),
    "test_fraction": Setting(
        0.2, "share of each class of own_images that becomes the test set, where none is given",
        low=0.0, high=0.9, role="data",
    ),
    "own_valid": Setting(
        False, "select by the validation images a data set brings (`valid_given`), unless valid_fraction is set",
        role="data",
    ),
    "features": Setting(
        "none",
        "pretrained network whose features take the place of photographs: efficientnet_lite0, resnet18, resnet50, one "
        "of these with _tuned, whose last block is trained by the method, timm/NAME@FILE, NETWORK@FILE or FILE; none; "
        "auto: on a CPU the first of these that is installed",
        role="data", told=True,
    ),
    "feature_views": Setting(
        2, "views of each photograph that features are made of: as it is, mirrored, and its middle both ways",
        low=1, high=4, role="data",
    ),
    "bad_files": Setting(
        "stop", "broken, empty or wrongly named image files: stop, or skip", choices=("stop", "skip"), role="data"
    ),
    "duplicates": Setting(
        "keep", "image files with equal contents: stop, skip all but one, or keep",
        choices=("stop", "skip", "keep"), role="data",
    ),
    "similar": Setting(
        False, "look for test images that look like training images, such as one photograph saved twice", role="view"
    ),
    "streaming": Setting(
        "auto", "read image files' batches from the cache: auto (where they do not fit on the device), always, never",
        choices=STREAMING, role="machine",
    ),
    # Where files are.
    "data_dir": Setting(
        None, "folder with the source files; else (not for own_images) the variable DATA_DIR; else a download",
        optional=True, kind=str, role="machine",
    ),
    "cache_dir": Setting(".cache", "folder for built data sets and downloads", role="machine"),
}  # fmt: skip


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with what they leave out: the data set's defaults, and the folder that DATA_DIR names.

    A user's own images are only where the setting `data_dir` says: the variable is where published data sets are.
    """
    spec = DATASETS[settings["dataset"]]
    full = dict(settings)
    for name, setting in DATA_SETTINGS.items():
        brought, value = spec.default(name, setting)
        if name not in full or (full[name] is None and brought):
            full[name] = value if brought else setting.default
    if full["dataset"] != "own_images":
        full["data_dir"] = full["data_dir"] or os.environ.get("DATA_DIR") or None
    return full
