"""CIFAR-10 (Krizhevsky 2009): torchvision's files or download, class folders, or a zip of class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from debias.data.cache import Arrays, cached, key_of
from debias.data.sources.cifar_files import (
    ARCHIVE,
    BATCHES,
    CLASSES,
    Found,
    of_archive,
    of_batches,
    of_folder,
    of_zip,
)
from debias.data.sources.idx import Source
from debias.downloads import fetch
from debias.errors import UserError
from debias.randomness import stream

VERSION = 1
ZIPS = ("cifar10_jpeg.zip", "cifar10.zip")


def cifar10(
    data_dir: str | Path | None,
    cache_dir: str | Path,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Source:
    """CIFAR-10, 50,000 + 10,000 images in ten classes, decoded once and kept in `cache_dir`.

    Looked for in `data_dir`: torchvision's folder or archive, {train,test}/<class>/<file> as they are or in a folder
    cifar10, or such a tree in cifar10_jpeg.zip or cifar10.zip; downloaded otherwise. `limit` keeps so many random
    training images and limit // 6 random test images, and decodes no others.

    Raises
    ------
    UserError
        Files that are damaged or no CIFAR-10, or not available; a limit below 6.
    """
    if limit is not None and limit < 6:
        raise UserError(f"limit={limit}: at least 6 training images, so that limit // 6 test images are left")
    found = _find_or_download(None if data_dir is None else Path(data_dir), Path(cache_dir))

    def build() -> Arrays:
        files = found.open()
        arrays: Arrays = {}
        for part, keep in (("train", limit), ("test", None if limit is None else limit // 6)):
            labels = files.labels(part)
            ids = np.arange(len(labels))
            if keep is not None:
                ids = torch.randperm(len(labels), generator=stream(seed, f"limit {part}"))[:keep].numpy()
            arrays[f"{part}_images"] = files.images(part, ids, progress)
            arrays[f"{part}_labels"], arrays[f"{part}_ids"] = labels[ids], ids
        return arrays

    key = key_of(builder="cifar10", version=VERSION, files=found.digest, limit=limit, seed=0 if limit is None else seed)
    arrays = cached(cache_dir, "cifar10", key, build)
    return Source(
        arrays["train_images"],
        arrays["train_labels"],
        arrays["test_images"],
        arrays["test_labels"],
        CLASSES,
        arrays["train_ids"],
        arrays["test_ids"],
    )


def _find_or_download(data_dir: Path | None, cache_dir: Path) -> Found:
    downloaded = cache_dir / "downloads"
    for place in (data_dir, downloaded):
        found = None if place is None else _find(place)
        if found is not None:
            return found
    failure = _download(downloaded)
    found = _find(downloaded)
    if found is not None:
        return found
    where = (
        f"none of them is in {data_dir}"
        if data_dir is not None
        else "set data_dir (or the environment variable DATA_DIR) to the folder that has one"
    )
    raise UserError(
        f"CIFAR-10 was not found and could not be downloaded.\nIt may be the folder {BATCHES}, the archive {ARCHIVE}, "
        f"a folder cifar10 with train/<class>/<file> and test/<class>/<file>, or the same tree in {' or '.join(ZIPS)}; "
        f"{where}.\nDownload: {failure or 'incomplete'}\nThe data set colored_digits needs no download."
    )


def _find(folder: Path) -> Found | None:
    for root in (folder / BATCHES, folder):
        if (root / "data_batch_1").is_file():
            return of_batches(root)
    if (folder / ARCHIVE).is_file():
        return of_archive(folder / ARCHIVE)
    for root in (folder / "cifar10", folder):
        if all((root / "train" / name).is_dir() for name in CLASSES):
            return of_folder(root)
    for name in ZIPS:
        if (folder / name).is_file():
            return of_zip(folder / name)
    return None


def _download(folder: Path) -> str | None:
    """Fetch torchvision's archive and check its MD5 sum. Returns what went wrong in one line, or None."""

    def download() -> None:
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import download_url

        # Not through the class itself, which would unpickle the files.
        download_url(CIFAR10.url, str(folder), ARCHIVE, CIFAR10.tgz_md5)

    return fetch(folder, "CIFAR10", download)
