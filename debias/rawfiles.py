"""Files and tables from outside, opened with care: only regular files of a sane size, only rows that can be read; and
files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from debias.errors import UserError

# A file that is larger is not an image or table of a data set.
MAX_FILE_BYTES = 512 * 2**20
_BLOCKS = getattr(os, "O_NONBLOCK", 0)


def read_regular(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file.

    Raises
    ------
    OSError
        It cannot be opened or read.
    ValueError
        It is a pipe, a device or a folder, which may never end, or has more than `most` bytes.
    """
    # Without waiting: opening a pipe would wait for whoever writes to it.
    handle = os.open(path, os.O_RDONLY | _BLOCKS | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > most:
            raise ValueError(f"{about.st_size} bytes, more than {most // 2**20} MiB")
        return file.read()


def check_regular(path: Path) -> None:
    """Look at a file before something else opens it: a pipe would be waited for, a device may never end.

    Raises
    ------
    OSError
        It is not there, or is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place when all is written; what is there stays otherwise."""
    # Of a link, what it leads to. Two threads of a run may write the same file at the same moment.
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, os.fspath(partial)):
            # A write that fails does not say of which file, and nobody knows the temporary name.
            error.filename, error.filename2 = os.fspath(path), None
        raise


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8.

    Raises
    ------
    UserError
        Beginning with `what`: it cannot be read, is not a regular file, or is not UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} cannot be read ({error.reason} at byte {error.start}); it must be in UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def table_rows(text: str, where: str, delimiter: str = ",") -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Names of the columns, and rows with the number of their last line; cells that are missing are empty.

    A row with more cells than there are columns has the rest under the name "".

    Raises
    ------
    UserError
        Beginning with `where`: a field that is too long, as after a quote that is not closed, NUL, or a column twice.
    """
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    names: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for line in reader:
            if "\0" in "".join(line):
                raise csv.Error("a character NUL")
            if not names:
                names = [name.strip() for name in line]
                continue
            if line:
                row = dict(zip(names, line, strict=False)) | dict.fromkeys(names[len(line) :], "")
                rows.append(
                    (
                        reader.line_num,
                        row | ({"": delimiter.join(line[len(names) :])} if len(line) > len(names) else {}),
                    )
                )
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}; is a quote not closed?") from error
    lower = [name.lower() for name in names if name]
    if twice := next((name for name in lower if lower.count(name) > 1), None):
        raise UserError(f"{where}: two columns are called {twice}")
    return names, rows
