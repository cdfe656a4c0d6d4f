"""Data files made small for a machine without internet, and made whole again there, byte for byte.

    python scripts/carried.py pack DATA_DIR FOLDER       MNIST and, where there is a zip of it, CIFAR-10 into FOLDER
    python scripts/carried.py unpack FOLDER DATA_DIR     and back; each file is checked against its SHA-256

The standard library is enough. A zip of JPEG files is repetitive: each begins with the same tables, and zip compresses
file by file. xz takes CIFAR-10's 62 MB to 19 MB.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MNIST = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
CIFAR = ("cifar10_jpeg.zip", "cifar10.zip")
SUMS = "SHA256SUMS"
CHUNK = 1 << 20  # bytes


class CarryError(Exception):
    """What was asked for cannot be done; the message says what to do."""


def found(source: Path) -> list[str]:
    """The files to carry, relative to `source`: MNIST's four, and a zip of CIFAR-10 if there is one.

    Raises CarryError where MNIST is not complete.
    """
    for place in ("MNIST/raw", "mnist", "."):
        names = [next((n for n in (f"{stem}.gz", stem) if (source / place / n).is_file()), None) for stem in MNIST]
        present = [str(Path(place) / name) for name in names if name is not None]
        if len(present) == len(MNIST):
            return present + [name for name in CIFAR if (source / name).is_file()][:1]
    raise CarryError(f"{source}: MNIST's four files are not there, in MNIST/raw, mnist or the folder itself")


def pack(source: Path, folder: Path) -> None:
    """Write what `found` names to a new `folder`, and SHA256SUMS of the originals (as sha256sum -c reads them)."""
    shutil.rmtree(folder, ignore_errors=True)
    sums = []
    for name in found(source):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            shutil.copyfile(source / name, target)
        else:
            # The level hardly matters for bytes of JPEG files, and the first takes seconds.
            with (source / name).open("rb") as whole, lzma.open(f"{target}.xz", "wb", preset=1) as small:
                shutil.copyfileobj(whole, small, CHUNK)
        sums.append(f"{digest_of(source / name)}  {name}\n")
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def unpack(folder: Path, target: Path) -> None:
    """Make `target` hold the original files; those that it holds already stay.

    Raises CarryError where a packed file is missing or damaged; then the file does not appear in `target`.
    """
    for digest, name in listed(folder):
        path = target / name
        if path.is_file() and digest_of(path) == digest:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        small = folder / f"{name}.xz"
        try:
            with (
                lzma.open(small) if small.is_file() else (folder / name).open("rb") as content,
                partial.open("wb") as whole,
            ):
                shutil.copyfileobj(content, whole, CHUNK)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise CarryError(f"{folder}: {name} cannot be unpacked ({error}): pack it again") from error
        if digest_of(partial) != digest:
            raise CarryError(f"{folder}: {name} is not what was packed: pack it again")
        partial.replace(path)


def listed(folder: Path) -> Iterator[tuple[str, str]]:
    """Digest and name of every packed file."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except OSError as error:
        raise CarryError(f"{folder}: no {SUMS} ({error.strerror}): make it by bash scripts/pack_for_gpu.sh") from error
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CarryError(f"{folder}: {SUMS} names {name}, outside the folder")
        yield digest, name


def digest_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def main(words: list[str]) -> int:
    what = {"pack": pack, "unpack": unpack}
    if len(words) != 3 or words[0] not in what:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        what[words[0]](Path(words[1]), Path(words[2]))
    except (CarryError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
