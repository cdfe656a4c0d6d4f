"""Decoded images on disk, made once for the same files and preparation: memory-mapped uint8 at training resolution."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from debias.data.cache import Arrays, cached_files, key_of, new_array
from debias.data.photos.archives import Files
from debias.data.photos.decode import digest, fill
from debias.data.preparation import Preparation
from debias.digests import digest_of

# 2: other depths than 8 bits, transparency, and which rows are of one colour.
VERSION = 2
# Rows compared with their digests whenever a cache is opened.
_CHECKED = 64


@dataclass
class DecodedImages:
    """Arrays of one cache, a row for each file.

    images : uint8 [N, 3, S, S], memory-mapped; black where there is a fault
    contents : uint8 [N, 16], digest of the file as it is on disk
    pixels : uint8 [N, 16], digest of the row of `images`
    constant : bool [N], whether a row is of one colour throughout
    faults : by row, why the file has no image
    """

    images: np.ndarray
    contents: np.ndarray
    pixels: np.ndarray
    constant: np.ndarray
    faults: dict[int, str]


def decoded_images(
    files: Files,
    names: Sequence[str],
    preparation: Preparation,
    cache_dir: str | Path,
    title: str,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> DecodedImages:
    """Decode `names`, or open what was decoded before.

    A cache is known by the place, name, size and time of every file (in archives: checksum), and by the preparation.
    A cache that is incomplete or damaged is never used: it is made under another name and renamed when it is on the
    disk, and its sizes and a sample of its rows are checked whenever it is opened.

    Raises
    ------
    UserError
        `cache_dir` cannot be written to, or an archive breaks off.
    """
    shape = (len(names), 3, preparation.size, preparation.size)

    def write(folder: Path) -> None:
        images = new_array(folder / "images.npy", shape, np.uint8)
        terminal = sys.__stderr__
        with tqdm(
            total=len(names),
            desc=f"{title}: decoding",
            unit="image",
            disable=None if progress else True,
            file=terminal,
        ) as bar:
            decoded = fill(files, names, preparation, images, workers, bar.update)
        faults = json.dumps(sorted(decoded.faults.items())).encode()
        np.save(folder / "contents.npy", decoded.contents, allow_pickle=False)
        np.save(folder / "pixels.npy", decoded.pixels, allow_pickle=False)
        np.save(folder / "constant.npy", decoded.constant, allow_pickle=False)
        np.save(folder / "faults.npy", np.frombuffer(faults, dtype=np.uint8), allow_pickle=False)

    key = _key(files, names, preparation)
    arrays = cached_files(cache_dir, title.replace(" ", "-"), key, write, _wrong)
    faults = _faults(arrays["faults"], len(names))
    assert faults is not None
    return DecodedImages(
        arrays["images"],
        np.asarray(arrays["contents"]),
        np.asarray(arrays["pixels"]),
        np.asarray(arrays["constant"]),
        faults,
    )


def _faults(stored: np.ndarray, count: int) -> dict[int, str] | None:
    """Faults by row; None for what is not a list of them."""
    try:
        faults = {int(row): str(why) for row, why in json.loads(stored.tobytes().decode())}
    except (ValueError, TypeError, RecursionError):
        return None
    return faults if all(0 <= row < count for row in faults) else None


def _key(files: Files, names: Sequence[str], preparation: Preparation) -> str:
    stamps = ((name, *files.stamps[name]) for name in names)
    listed = (f"{name}\0{size}\0{stamp}\n".encode(errors="surrogateescape") for name, size, stamp in stamps)
    return key_of(
        builder="images",
        version=VERSION,
        root=str(files.root.absolute()),
        files=digest_of(listed),
        preparation=json.dumps(preparation.as_dict(), sort_keys=True),
    )


def _wrong(arrays: Arrays) -> str | None:
    """What is wrong with the rows of a cache, judging by some of them."""
    if _faults(arrays["faults"], len(arrays["images"])) is None:
        return "faults.npy is not what was written"
    images, pixels = arrays["images"], arrays["pixels"]
    if len(images) == 0:
        return None
    for row in np.unique(np.linspace(0, len(images) - 1, _CHECKED).astype(int)):
        if not np.array_equal(digest(np.ascontiguousarray(images[row]).data), pixels[row]):
            return f"row {row} of images.npy is not what was written"
    return None
