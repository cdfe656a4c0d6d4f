"""Where image files come from: a folder, a zip or a tar archive. Archives are read as they are, nothing is unpacked."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# A file that claims more is not an image of a data set; whoever packed it means harm.
MAX_FILE_BYTES = 512 * 2**20
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
        for folder, folders, files in os.walk(root, followlinks=True):
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
            yield position, self._paths[name].read_bytes

    def path(self, name: str) -> str:
        return str(self._paths[name])


class ZipFiles(Files):
    """Members of a zip archive, read one by one, their checksums compared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._zip = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile) as error:
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
            except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
                raise ValueError(f"damaged in the archive: {error}") from error

        return read


class TarFiles(Files):
    """Members of a tar archive, compressed or not, read in the order in which they are packed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        found = {member.name: (member.size, member.mtime) for member in self._members()}
        self.stamps = {name: (size, int(time)) for name, (size, time) in sorted(found.items())}

    def each(self, names: Sequence[str]) -> Iterator[tuple[int, Read]]:
        wanted = {name: position for position, name in enumerate(names)}
        with self._open() as archive:
            for member in self._members(archive):
                if member.name in wanted:
                    _check_size(member.size)
                    handle = archive.extractfile(member)
                    content = handle.read() if handle is not None else b""
                    yield wanted.pop(member.name), lambda content=content: content  # type: ignore[misc]

    def _open(self) -> tarfile.TarFile:
        try:
            return tarfile.open(self.root, "r:*")
        except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
            raise _damaged(self.root, error) from error

    def _members(self, archive: tarfile.TarFile | None = None) -> Iterator[tarfile.TarInfo]:
        try:
            for member in archive or self._open():
                # Links could point anywhere; devices are not files.
                if member.isreg() and _is_member(member.name):
                    member.name = PurePosixPath(member.name).as_posix()
                    yield member
        except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
            raise _damaged(self.root, error) from error


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


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size} bytes, more than {MAX_FILE_BYTES // 2**20} MiB")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return (-1, 0)
    return (about.st_size, about.st_mtime_ns)


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} cannot be read ({error}): the archive is damaged or incomplete, download it again")
