"""Source sets of grey 28x28 images: MNIST and Fashion-MNIST from their IDX files, found locally or downloaded."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from debias.digests import digest_of
from debias.downloads import fetch
from debias.errors import UserError
from debias.randomness import stream
from debias.rawfiles import read_regular

MNIST_NAMES = tuple(str(digit) for digit in range(10))
FASHION_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# The largest of the files is 47 MB.
_MOST_BYTES = 256 * 2**20
# Files of one set, in the order of `Source`: (name, number of array axes in the IDX header).
IDX_FILES = (
    ("train-images-idx3-ubyte", 3),
    ("train-labels-idx1-ubyte", 1),
    ("t10k-images-idx3-ubyte", 3),
    ("t10k-labels-idx1-ubyte", 1),
)


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled images before any bias is put in.

    images : uint8 [N, 28, 28], grey, or [N, 3, 32, 32] of CIFAR-10; labels : int64 [N]
    ids : int64 [N], positions in the complete source
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    names: tuple[str, ...]
    train_ids: np.ndarray
    test_ids: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Hex digest of every pixel, label and id."""
        arrays = (
            self.train_images,
            self.train_labels,
            self.train_ids,
            self.test_images,
            self.test_labels,
            self.test_ids,
        )
        return digest_of(
            part
            for array in arrays
            for part in (f"{array.dtype.str}{array.shape}".encode(), np.ascontiguousarray(array).data)
        )

    def limited(self, limit: int, seed: int) -> Source:
        """Keep `limit` random training images and limit // 6 random test images (or all, where there are fewer).

        Raises UserError for a limit below 6, which would leave no test image.
        """
        if limit < 6:
            raise UserError(f"limit={limit}: at least 6 training images, so that limit // 6 test images are left")
        train = _random_choice(len(self.train_labels), limit, stream(seed, "limit train"))
        test = _random_choice(len(self.test_labels), limit // 6, stream(seed, "limit test"))
        return Source(
            self.train_images[train],
            self.train_labels[train],
            self.test_images[test],
            self.test_labels[test],
            self.names,
            self.train_ids[train],
            self.test_ids[test],
        )


def _random_choice(n: int, keep: int, generator: torch.Generator) -> np.ndarray:
    return torch.randperm(n, generator=generator)[:keep].numpy()


def mnist(data_dir: str | Path | None, cache_dir: str | Path) -> Source:
    """MNIST (LeCun et al. 1998), 60,000 + 10,000 digits: from files under `data_dir`, else downloaded.

    `data_dir` is only read; downloads go to cache_dir/downloads.

    Raises
    ------
    UserError
        Files damaged, or neither found nor downloadable.
    """
    places = []
    if data_dir is not None:
        root = Path(data_dir)
        places = [root / "MNIST" / "raw", root / "mnist"]
        # Both sets use the same four names: a folder of Fashion-MNIST must not pass for MNIST.
        if not _is_fashion(root):
            places.append(root)
    return _find_or_download("MNIST", MNIST_NAMES, places, Path(cache_dir))


def fashion_mnist(data_dir: str | Path | None, cache_dir: str | Path) -> Source:
    """Fashion-MNIST (Xiao et al. 2017), 60,000 + 10,000 garments, found like `mnist`.

    Files lying directly in `data_dir` count only when its path says "fashion": MNIST's have the same names.
    """
    places = []
    if data_dir is not None:
        root = Path(data_dir)
        places = [
            root / "FashionMNIST" / "raw",
            *(root / name for name in ("fashion-mnist", "fashion_mnist", "fashionmnist", "fashion")),
        ]
        if _is_fashion(root):
            places.append(root)
    return _find_or_download("FashionMNIST", FASHION_NAMES, places, Path(cache_dir))


def _is_fashion(folder: Path) -> bool:
    return any("fashion" in part.lower() for part in folder.absolute().parts[-2:])


def _find_or_download(kind: str, names: tuple[str, ...], places: list[Path], cache_dir: Path) -> Source:
    downloaded = cache_dir / "downloads" / kind / "raw"
    tried = []
    for place in [*places, downloaded]:
        files = [_find(place, stem) for stem, _ in IDX_FILES]
        present = [file for file in files if file is not None]
        if len(present) == len(IDX_FILES):
            return _read_source(present, names)
        tried.append(f"  {place}: {_what_is_missing(place, files)}")
    failure = _download(kind, cache_dir / "downloads")
    files = [_find(downloaded, stem) for stem, _ in IDX_FILES]
    present = [file for file in files if file is not None]
    if failure is None and len(present) == len(IDX_FILES):
        return _read_source(present, names)
    wanted = ", ".join(f"{stem}[.gz]" for stem, _ in IDX_FILES)
    folder = places[0] if places else Path("DATA_DIR") / kind / "raw"
    raise UserError(
        f"{kind} was not found and could not be downloaded.\nPlaces tried:\n"
        + "\n".join(tried)
        + f"\nDownload: {failure or 'incomplete'}\nPut the four files {wanted} into {folder}"
        + (
            ""
            if places
            else " and set data_dir (or the environment variable DATA_DIR) to the folder DATA_DIR stands for"
        )
        + ".\nThe data set colored_digits needs no download."
    )


def _find(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem.replace("-idx", ".idx")):
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    return None


def _what_is_missing(folder: Path, files: list[Path | None]) -> str:
    if not folder.is_dir():
        return "no such folder"
    missing = [stem for (stem, _), file in zip(IDX_FILES, files, strict=True) if file is None]
    return "none of the four files" if len(missing) == len(files) else f"lacks {', '.join(missing)}"


def _download(kind: str, folder: Path) -> str | None:
    """Download with torchvision, which checks MD5 sums. Returns what went wrong in one line, or None."""

    def download() -> None:
        from torchvision import datasets

        getattr(datasets, kind)(str(folder), download=True)

    return fetch(folder, kind, download)


def _read_source(files: list[Path], names: tuple[str, ...]) -> Source:
    arrays = [read_idx(file, axes) for file, (_, axes) in zip(files, IDX_FILES, strict=True)]
    for part in (0, 2):
        images, labels = arrays[part], arrays[part + 1]
        if len(images) != len(labels):
            raise UserError(
                f"{files[part]} holds {len(images)} images but {files[part + 1]} {len(labels)} labels: "
                "they do not belong together, fetch both again"
            )
        if len(images) == 0 or images.shape[1:] != (28, 28):
            raise UserError(f"{files[part]} holds {len(images)} images of {images.shape[1:]}: expected 28x28 images")
        if labels.max() >= len(names):
            raise UserError(f"{files[part + 1]} holds label {labels.max()}: expected 0 to {len(names) - 1}")
    train_images, train_labels, test_images, test_labels = arrays
    return Source(
        train_images,
        train_labels.astype(np.int64),
        test_images,
        test_labels.astype(np.int64),
        names,
        np.arange(len(train_labels)),
        np.arange(len(test_labels)),
    )


def read_idx(file: Path, axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not: uint8, with `axes` axes.

    Header: 0, 0, 8 (unsigned byte), number of axes, then each axis as a big-endian 32-bit integer.

    Raises
    ------
    UserError
        The file cannot be read, is no such IDX file, or its length is not what its header says.
    """

    def damaged(what: str) -> UserError:
        return UserError(f"{file}: {what}. The file is damaged: remove it and download it again")

    try:
        content = read_regular(file, _MOST_BYTES)
        if content[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                content = packed.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise damaged(f"more than {_MOST_BYTES // 2**20} MiB unpacked")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(f"broken gzip data ({error})") from error
    except ValueError as error:
        raise damaged(str(error)) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    header = 4 * (axes + 1)
    if len(content) < header:
        raise damaged(f"only {len(content)} bytes, shorter than its header")
    magic, *shape = (int(value) for value in np.frombuffer(content[:header], dtype=">u4"))
    if magic != 0x0800 + axes:
        raise damaged(f"magic number {magic} instead of {0x0800 + axes}")
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise damaged(f"{len(content)} bytes instead of the {expected} its header announces")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
