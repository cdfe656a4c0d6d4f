"""CIFAR-10 as it lies on a disk: its own six files, in a folder or an archive, or image files in class folders.

Nothing is unpacked, and nothing is unpickled. What is found is digested immediately and opened only when it is needed.
"""

from __future__ import annotations

import lzma
import os
import pickletools
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from debias.digests import digest_of, digest_of_file
from debias.errors import UserError
from debias.rawfiles import read_regular

# Per channel, as the papers' code has them.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
PARTS = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
SUFFIXES = (".jpg", ".jpeg", ".png")
SHAPE = (3, 32, 32)
# What damaged files and archives raise.
_BROKEN = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
LARGEST = 1 << 20  # bytes of an image file of 32 x 32 pixels, with room to spare


class Contents(Protocol):
    """Labels by part, known before anything is decoded, and images."""

    def labels(self, part: str) -> np.ndarray:
        """int64 [N] of "train" or "test"."""

    def images(self, part: str, index: np.ndarray, progress: bool) -> np.ndarray:
        """uint8 [len(index), 3, 32, 32] of the images at these positions."""


class Found(NamedTuple):
    """A digest of what was found, and how it is opened."""

    digest: str
    open: Callable[[], Contents]


class SixFiles:
    """The six files, whole."""

    def __init__(self, read: Callable[[str], bytes], where: Path) -> None:
        self._images, self._labels = {}, {}
        for part, names in PARTS.items():
            read_ones = [read_batch(read(name), f"{where}: {name}") for name in names]
            self._images[part] = np.concatenate([images for images, _ in read_ones])
            self._labels[part] = np.concatenate([labels for _, labels in read_ones])

    def labels(self, part: str) -> np.ndarray:
        return self._labels[part]

    def images(self, part: str, index: np.ndarray, progress: bool) -> np.ndarray:
        return self._images[part][index]


def read_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of one of CIFAR-10's own files.

    The file is a pickled dictionary with `data`, an array whose bytes stand in it as one string, and `labels`, a list.
    Its instructions are listed, and none is carried out.

    Raises
    ------
    UserError
        Anything else.
    """
    pixels, key = b"", ""
    labels: list[int] = []
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if isinstance(argument, str | bytes):
                plain = argument.encode("latin-1") if isinstance(argument, str) else argument
                if plain in (b"data", b"labels", b"batch_label", b"filenames"):
                    key = plain.decode()
                elif key == "data" and len(plain) > len(pixels):
                    pixels = plain
            elif key == "labels" and instruction.name in ("BININT", "BININT1", "BININT2", "INT"):
                labels.append(int(argument or 0))
    except (ValueError, UnicodeError):
        labels = []
    if not labels or len(pixels) != np.prod(SHAPE) * len(labels) or not all(0 <= label < 10 for label in labels):
        raise UserError(f"{where} is not a batch of CIFAR-10, or damaged: download it again")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, *SHAPE), np.array(labels, dtype=np.int64)


def of_batches(root: Path) -> Found:
    """The six files in a folder."""

    def read(name: str) -> bytes:
        try:
            return read_regular(root / name)
        except (OSError, ValueError) as error:
            raise UserError(f"{root / name} cannot be read ({getattr(error, 'strerror', None) or error})") from error

    digest = digest_of(read(name) for names in PARTS.values() for name in names)
    return Found(digest, lambda: SixFiles(read, root))


def of_archive(path: Path) -> Found:
    """The six files in the archive they are handed out in."""

    def read(name: str) -> bytes:
        try:
            with tarfile.open(path) as archive:
                member = archive.extractfile(f"{BATCHES}/{name}")
                if member is None:
                    raise KeyError(name)
                return member.read()
        except (*_BROKEN, KeyError) as error:
            raise UserError(f"{path}: {name} cannot be read from it ({error}): download it again") from error

    return Found(_digest_of(path), lambda: SixFiles(read, path))


class Tree:
    """Image files by class: `names` of each part as <part>/<class>/<file>, and a function that gives a file's bytes."""

    def __init__(self, names: Mapping[str, list[str]], read: Callable[[str], bytes], where: str) -> None:
        self._names, self._read, self._where = names, read, where
        for part in PARTS:
            found = {name.split("/")[1] for name in names[part]}
            if missing := [label for label in CLASSES if label not in found]:
                raise UserError(f"{where}: {part} has no images of {', '.join(missing)}")

    def labels(self, part: str) -> np.ndarray:
        return np.array([CLASSES.index(name.split("/")[1]) for name in self._names[part]], dtype=np.int64)

    def images(self, part: str, index: np.ndarray, progress: bool) -> np.ndarray:
        images = np.empty((len(index), *SHAPE), dtype=np.uint8)
        bar = tqdm(
            index.tolist(), f"decoding {part}", disable=not progress, file=sys.__stderr__, leave=False, unit="image"
        )
        with warnings.catch_warnings():
            # torch warns of read-only bytes, which nobody writes to; torchvision of a successor to its decoder, which
            # would be one more package, and Pillow takes four times as long.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            for place, number in enumerate(bar):
                images[place] = self._decode(self._names[part][number])
        return images

    def _decode(self, name: str) -> np.ndarray:
        try:
            content = torch.from_numpy(np.frombuffer(self._read(name), dtype=np.uint8))
            # Not above: torchvision imports torch's compiler, for as long as all the rest of the program takes.
            from torchvision.io import ImageReadMode, decode_image

            image = decode_image(content, ImageReadMode.RGB).numpy()
        except (*_BROKEN, KeyError) as error:
            why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise UserError(
                f"{self._where}/{name} cannot be read as an image ({why}): download it again or remove it"
            ) from error
        if image.shape != SHAPE:
            raise UserError(f"{self._where}/{name} is {image.shape[2]} x {image.shape[1]}: CIFAR-10's are 32 x 32")
        return image


def of_folder(root: Path) -> Found:
    """{train,test}/<class>/<file> below a folder."""
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    listed = [str(root.absolute()).encode()]
    for part in PARTS:
        for label in CLASSES:
            folder = root / part / label
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else []
            for entry in entries:
                if entry.name.lower().endswith(SUFFIXES):
                    try:
                        about = entry.stat()
                    except OSError as error:
                        raise UserError(f"{entry.path} cannot be read ({error.strerror or error})") from error
                    listed.append(f"{part}/{label}/{entry.name}/{about.st_size}/{about.st_mtime_ns}".encode())
                    names[part].append(f"{part}/{label}/{entry.name}")
    return Found(digest_of(listed), lambda: Tree(names, lambda name: read_regular(root / name, LARGEST), str(root)))


def of_zip(path: Path) -> Found:
    """The same tree in a zip, at its top or in one folder."""

    def open_zip() -> Tree:
        try:
            archive = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise UserError(f"{path} is not a zip that can be read ({error}): download it again") from error
        sizes = {info.filename: info.file_size for info in archive.infolist()}

        def read(name: str) -> bytes:
            if sizes[top + name] > LARGEST:
                raise UserError(f"{path}/{name} is {sizes[top + name]} bytes long: that is not an image of CIFAR-10")
            return archive.read(top + name)

        marker = f"train/{CLASSES[0]}/"
        top = min((name.split(marker)[0] for name in sizes if marker in name), key=len, default="")
        return Tree(_by_part(sizes, top), read, str(path))

    return Found(_digest_of(path), open_zip)


def _by_part(members: Iterable[str], top: str) -> dict[str, list[str]]:
    """Members <top><part>/<class>/<file> without `top`, class by class and sorted by name."""
    found: dict[str, dict[str, list[str]]] = {part: {label: [] for label in CLASSES} for part in PARTS}
    for member in sorted(members):
        part, _, rest = member.removeprefix(top).partition("/")
        label, _, name = rest.partition("/")
        if part in found and label in found[part] and "/" not in name and name.lower().endswith(SUFFIXES):
            found[part][label].append(f"{part}/{label}/{name}")
    return {part: [name for own in labels.values() for name in own] for part, labels in found.items()}


def _digest_of(path: Path) -> str:
    try:
        return digest_of_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
