"""Data sets as LfF's generator writes them (Nam et al., NeurIPS 2020): one folder for each share and severity.

    ColoredMNIST-Skewed0.01-Severity4/{train,valid}/{images,attrs}.npy
    CorruptedCIFAR10-Type0-Skewed0.01-Severity4/{train,valid}/{images,attrs}.npy

images.npy is uint8 [N, H, W, 3], attrs.npy integers [N, 2], target and bias of each image. `valid` is the test set: a
tenth of it is aligned. The folder also holds attr_names.pkl, a pickle; it is never opened, as its two words are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from debias.data.cache import Arrays, key_of
from debias.digests import digest_of_file
from debias.errors import UserError

VERSION = 1
PARTS = {"train": "train", "test": "valid"}
CLASSES = 10
# Milestones of the generator are rounded within each class, so the share of all images is not exactly the one named.
TOLERANCE = 0.001


def find_folder(data_dir: str | None, name: str, stem: str, skew: float, severity: int) -> Path:
    """The folder of a share and severity in `data_dir`, or `data_dir` itself where it holds train/images.npy.

    Parameters
    ----------
    data_dir
        Where to look.
    name
        The data set's, for errors.
    stem
        Beginning of the folder's name, as `ColoredMNIST`.
    skew, severity
        Which one.

    Raises
    ------
    UserError
        Not there; says which folders of the kind are.
    """
    if data_dir is None:
        raise UserError(f"{name} needs its files: set data_dir=FOLDER, or the environment variable DATA_DIR")
    root = Path(data_dir)
    if (root / "train" / "images.npy").is_file():
        return root
    wanted = f"{stem}-Skewed{skew:g}-Severity{severity}"
    for path in (root / wanted, root / name / wanted):
        if path.is_dir():
            return path
    others = sorted(path.name for path in root.glob(f"{stem}-Skewed*") if path.is_dir())
    there = f"; set skew and severity to one that is there: {', '.join(others)}" if others else ""
    raise UserError(
        f"{name} was not found: there is no folder {root / wanted}, nor does {root} hold train/images.npy{there}"
    )


def read_folder(folder: Path, side: int, skew: float, limit: int | None) -> tuple[Arrays, str]:
    """The arrays {train,test}_{images,target,bias,ids} of a folder, checked, and a digest of its files.

    Parameters
    ----------
    folder
        As `find_folder` gives it.
    side
        Side of its images in pixels.
    skew
        Share of conflicting training images that it must have.
    limit
        Only this many training images and a sixth as many test images, evenly from first to last: the conflicting
        ones of a class stand at its ends.

    Raises
    ------
    UserError
        Missing or damaged files, arrays of other shapes, labels outside 0..9, or another share.
    """
    arrays: Arrays = {}
    digests = []
    for part, called in PARTS.items():
        images, labels = (_read(folder / called / f"{kind}.npy") for kind in ("images", "attrs"))
        where = folder / called
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3) or len(images) == 0:
            raise UserError(
                f"{where / 'images.npy'}: {images.dtype} {list(images.shape)}, not uint8 [N, {side}, {side}, 3]"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (len(images), 2):
            raise UserError(
                f"{where / 'attrs.npy'}: {labels.dtype} {list(labels.shape)}, not integers [{len(images)}, 2], target "
                "and bias of each image"
            )
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise UserError(f"{where / 'attrs.npy'}: labels go from {labels.min()} to {labels.max()}, not 0 to 9")
        if part == "train":
            _check_share(folder, labels, skew)
        count = len(images) if limit is None else min(len(images), limit if part == "train" else max(1, limit // 6))
        chosen = np.arange(count) * len(images) // count
        arrays[f"{part}_images"] = np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2))
        arrays[f"{part}_target"], arrays[f"{part}_bias"] = labels[chosen].astype(np.int64).T.copy()
        arrays[f"{part}_ids"] = chosen
        digests += [digest_of_file(where / f"{kind}.npy") for kind in ("images", "attrs")]
    return arrays, key_of(builder="lff files", version=VERSION, files=" ".join(digests), limit=limit)


def read(settings: Mapping[str, Any], name: str, stem: str, side: int) -> tuple[Arrays, str]:
    """`read_folder` of the folder that complete settings name."""
    folder = find_folder(settings["data_dir"], name, stem, settings["skew"], settings["severity"])
    return read_folder(folder, side, settings["skew"], settings["limit"])


def _check_share(folder: Path, labels: np.ndarray, skew: float) -> None:
    share = float((labels[:, 0] != labels[:, 1]).mean())
    if abs(share - skew) > TOLERANCE:
        raise UserError(
            f"skew={skew:g}: {100 * share:.2f} % of the training images in {folder} conflict; "
            f"set skew={round(share, 3):g}"
        )


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        # Mapped, so that a header which promises more than there is asks for no memory; objects are refused.
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no array can be read from it ({error})") from error
