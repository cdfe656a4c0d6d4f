"""Marks on disk as they are made: a journal that outlives a killed process, and the table that other commands read."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from debias.data.reviewed import MARKS, WRONG_LABEL
from debias.digests import digest_of
from debias.errors import UserError
from debias.rawfiles import read_regular
from debias.review.items import Item
from debias.review.table import RESULT, Mark, Row, as_text, read_marks

JOURNAL = "review.jsonl"
# A line is some two hundred bytes.
_MOST = 256 * 2**20

Change = tuple[int, Mark | None]


class Marks:
    """The marks of a run's images, kept in its folder.

    Every change is a line of the journal, written and synchronised before it is answered. The table is written from
    it, whole, and named in the journal by its digest: a table that is not so named was changed by somebody else, and
    its marks are taken when it is opened.

    Parameters
    ----------
    folder
        The run's.
    items, classes
        Its images, and the names of its classes.
    rows
        The lines of the table.
    root
        The folder below which the paths in it are.

    Raises
    ------
    UserError
        The folder cannot be written to, or another process has it; a table that cannot be read.
    """

    def __init__(
        self, folder: Path, items: Sequence[Item], classes: Sequence[str], rows: Sequence[Row], root: Path | None = None
    ) -> None:
        self.path, self.result = folder / JOURNAL, folder / RESULT
        self.notes: list[str] = []
        self._items, self._classes = {item.number: item for item in items}, tuple(classes)
        self._rows, self._root = rows, root
        self._marks: dict[int, Mark] = {}
        self._guard = threading.RLock()
        self._unsaved, self._torn = True, False
        self._lock = FileLock(folder / f".{JOURNAL}.lock")
        try:
            self._lock.acquire(timeout=0)
            tables = self._replay()
            self._handle = self.path.open("ab", buffering=0)
        except Timeout as error:
            raise UserError(
                f"{folder} is being reviewed already; use the page that is open, or end it first"
            ) from error
        except (OSError, ValueError) as error:
            self._lock.release()
            raise UserError(f"{self.path}: cannot be used ({getattr(error, 'strerror', None) or error})") from error
        try:
            if self.result.exists() and digest_of([read_regular(self.result)]) not in tables:
                self.take(self.result, over=True)
        except (OSError, ValueError) as error:
            self.close()
            raise UserError(f"{self.result}: cannot be read ({error})") from error
        except UserError:
            self.close()
            raise

    def as_dict(self) -> dict[int, Mark]:
        """Mark of every marked image, by its id."""
        with self._guard:
            return dict(self._marks)

    def check(self, number: Any, mark: Any, label: Any = "") -> Change:
        """What a request says, if it is an image, a mark (empty: none any more) and a class that there are.

        Raises
        ------
        ValueError
            It is not.
        """
        if type(number) is not int or number not in self._items:
            raise ValueError("no such image")
        if not isinstance(mark, str) or not isinstance(label, str) or mark not in ("", *MARKS):
            raise ValueError("no such mark")
        if label and (label not in self._classes or mark != WRONG_LABEL):
            raise ValueError("no such class")
        return number, Mark(mark, label) if mark else None

    def put(self, changes: Iterable[Change]) -> None:
        """Keep changes, in their order; they are on the disk when this returns.

        Raises
        ------
        OSError
            They are not.
        """
        changed = list(changes)
        with self._guard:
            self._append([self._line(number, mark) for number, mark in changed])
            for change in changed:
                self._apply(*change)
            self._unsaved = True

    def save(self) -> bool:
        """Write the table where something changed since; whether it was written.

        Raises
        ------
        OSError
            It cannot be written.
        """
        with self._guard:
            if not self._unsaved:
                return False
            content = as_text(self._rows, self._marks).encode()
            # Named before it is there: a process that is killed in between leaves the table before it.
            self._append([{"table": digest_of([content])}])
            partial = self.result.with_name(f".{RESULT}.partial")
            with partial.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(self.result)
            self._unsaved = False
            return True

    def take(self, table: Path, over: bool = False) -> int:
        """Take the marks of a table; how many. Errors as of `read_marks`.

        over : whether it goes before marks that are here, also where it has none
        """
        found = read_marks(table, list(self._items.values()), self._classes, self._root)
        changes = [
            (number, mark)
            for number, mark in found.items()
            if mark != self._marks.get(number) and (over or number not in self._marks)
        ]
        self.put(changes)
        if changes:
            self.notes.append(f"{len(changes)} marks taken from {table}")
        return len(changes)

    def close(self) -> None:
        """Let others have the folder."""
        self._handle.close()
        self._lock.release()

    def _line(self, number: int, mark: Mark | None) -> dict[str, Any]:
        item = self._items[number]
        label = {"label": mark.label} if mark is not None and mark.label else {}
        known = {"path": item.path, "content": item.content} if item.path else {}
        return {"id": number, "mark": "" if mark is None else mark.mark, **label, **known}

    def _apply(self, number: int, mark: Mark | None) -> None:
        if mark is None:
            self._marks.pop(number, None)
        else:
            self._marks[number] = mark

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if not lines:
            return
        # One write: a process that is killed breaks off at most the last line.
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        # After a write that failed there may be half a line.
        data = b"\n" + data if self._torn else data
        self._torn = True
        if self._handle.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._handle.fileno())
        self._torn = False

    def _replay(self) -> set[str]:
        """Read the journal, of which the last line may have broken off; digests of the tables written from it."""
        if not self.path.exists():
            return set()
        data = read_regular(self.path, _MOST)
        tables, damaged = set(), 0
        for line in filter(None, data.split(b"\n")):
            try:
                said = json.loads(line)
                if "table" in said:
                    tables.add(str(said["table"]))
                    continue
                number, mark = self.check(said["id"], said["mark"], said.get("label", ""))
                if said.get("content", "") != self._items[number].content:
                    raise ValueError("another image")
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged += 1
                continue
            self._apply(number, mark)
        self._torn = bool(data) and not data.endswith(b"\n")
        if damaged:
            self.notes.append(f"{damaged} lines of {self.path} are damaged or of other images and are skipped")
        return tables
