"""Where image files come from: a folder, a zip or a tar archive. Archives are read as they are, nothing is unpacked."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn

from debias.errors import UserError
from debias.rawfiles import MAX_FILE_BYTES, read_regular

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# What is read behind the last member of a compressed archive, to see whether its end is there.
_MAX_TAIL = 64 * 2**20
# What damaged archives raise.
_BROKEN = (
    OSError,
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    RuntimeError,
)
# What operating systems leave in folders.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}

Read = Callable[[], bytes]


class Files(ABC):
    """Files by name, a posix path below `root`, in sorted order.

    root : the folder or archive, for messages
    stamps : what changes when a file does, by name
    """

    root: Path
    stamps: Mapping[str, tuple[int, int]]

    @abstractmethod
    def each(self, names: Sequence[str]) -> Iterator[tuple[int, Read]]:
        """(position in `names`, function that reads the file) for every name, in the order that suits the source.

        The functions may be called by other threads, and raise OSError or ValueError for what cannot be read.
        """

    def path(self, name: str) -> str:
        """How the user finds the file."""
        return str(self.root / name)

    @property
    def names(self) -> list[str]:
        return list(self.stamps)


class FolderFiles(Files):
    """Files below a folder; `paths` gives those that are meant, by name."""

    def __init__(self, root: Path, paths: Mapping[str, Path]) -> None:
        self.root = root
        self._paths = dict(sorted(paths.items()))
        self.stamps = {name: _stamp(path) for name, path in self._paths.items()}

    @classmethod
    def below(cls, root: Path) -> FolderFiles:
        """All files below a folder but hidden ones; links are followed."""
        paths: dict[str, Path] = {}
        seen: set[str] = set()
        for folder, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
            # A link to a folder above would never end.
            real = os.path.realpath(folder)
            folders[:] = [] if real in seen else [name for name in folders if not _is_litter(name)]
            if real in seen:
                continue
            seen.add(real)
            for name in files:
                if not _is_litter(name):
                    path = Path(folder) / name
                    paths[path.relative_to(root).as_posix()] = path
        return cls(root, paths)

    def each(self, names: Sequence[str]) -> Iterator[tuple[int, Read]]:
        for position, name in enumerate(names):
            yield position, partial(read_regular, self._paths[name])

    def path(self, name: str) -> str:
        return str(self._paths[name])


class ZipFiles(Files):
    """Members of a zip archive, read one by one, their checksums compared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._zip = zipfile.ZipFile(root)
        except _BROKEN as error:
            raise _damaged(root, error) from error
        members = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        self._members = {name: members[name] for name in sorted(members) if _is_member(name)}
        self.stamps = {name: (info.file_size, info.CRC) for name, info in self._members.items()}

    def each(self, names: Sequence[str]) -> Iterator[tuple[int, Read]]:
        for position in sorted(range(len(names)), key=lambda i: self._members[names[i]].header_offset):
            yield position, self._reader(names[position])

    def _reader(self, name: str) -> Read:
        def read() -> bytes:
            member = self._members[name]
            _check_size(member.file_size)
            try:
                return self._zip.read(member)
            except _BROKEN as error:
                raise ValueError(f"damaged in the archive: {error}") from error

        return read


class TarFiles(Files):
    """Members of a tar archive, compressed or not, read in the order in which they are packed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with self._open() as archive:
            found = {member.name: (member.size, member.mtime) for member in self._members(archive)}
            self._check_end(archive)
        self.stamps = {name: (size, int(time)) for name, (size, time) in sorted(found.items())}

    def each(self, names: Sequence[str]) -> Iterator[tuple[int, Read]]:
        wanted = {name: position for position, name in enumerate(names)}
        with self._open() as archive:
            for member in self._members(archive):
                if member.name in wanted:
                    yield wanted.pop(member.name), self._content(archive, member)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Read:
        """A function that gives a member, which is read now: what comes later is behind it."""
        if member.size > MAX_FILE_BYTES:
            return partial(_too_large, member.size)
        try:
            handle = archive.extractfile(member)
            content = handle.read() if handle is not None else b""
        except _BROKEN as error:
            raise _damaged(self.root, error) from error
        return lambda: content

    def _check_end(self, archive: tarfile.TarFile) -> None:
        """Read what is behind the last member: a compressed file that was cut off there says so only now."""
        left = _MAX_TAIL
        try:
            while left > 0 and archive.fileobj is not None and (block := archive.fileobj.read(2**20)):
                left -= len(block)
        except _BROKEN as error:
            raise _damaged(self.root, error) from error

    def _open(self) -> tarfile.TarFile:
        try:
            return tarfile.open(self.root, "r:*")
        except _BROKEN as error:
            raise _damaged(self.root, error) from error

    def _members(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        members = iter(archive)
        while True:
            # What the caller does with a member is not a fault of the archive.
            try:
                member = next(members, None)
            except _BROKEN as error:
                raise _damaged(self.root, error) from error
            if member is None:
                return
            # Links could point anywhere; devices are not files.
            if member.isreg() and _is_member(member.name):
                member.name = PurePosixPath(member.name).as_posix()
                yield member


def open_files(path: Path) -> Files:
    """The files of a folder or an archive.

    Raises
    ------
    UserError
        An archive that is damaged, or a path that is neither.
    """
    if path.is_dir():
        return FolderFiles.below(path)
    if path.suffix.lower() == ".zip" and path.is_file():
        return ZipFiles(path)
    if path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file():
        return TarFiles(path)
    raise UserError(f"{path} is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)})")


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is an image of a kind that is read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _is_member(name: str) -> bool:
    """Whether a member's name stays inside the archive, and is not litter."""
    parts = PurePosixPath(name).parts
    inside = not name.startswith("/") and ".." not in parts and "\\" not in name
    return inside and not any(_is_litter(part) for part in parts)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror or error})") from error


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        _too_large(size)


def _too_large(size: int) -> NoReturn:
    raise ValueError(f"{size} bytes, more than {MAX_FILE_BYTES // 2**20} MiB")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return (-1, 0)
    return (about.st_size, about.st_mtime_ns)


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} cannot be read ({error}): the archive is damaged or incomplete, download it again")
