"""The images of a suspects.csv, each with its place in the data as it is now, or why it is not there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from debias.data.known import CHANGED, KnownFiles
from debias.data.split import Task
from debias.errors import UserError
from debias.harmless import uncell
from debias.rawfiles import read_text, table_rows

TABLE = "suspects.csv"
_WANTED = ("id", "target", "score", "suspect")


@dataclass(frozen=True)
class Item:
    """An image that was mined.

    number : its id in the table, unique; rank : the higher, the more suspicious; path, content : empty of data that is
    not files; place : its position in the training images, None where it is not there; file : its path now; why : it
    is not there, for people
    """

    number: int
    target: str
    score: float
    suspect: bool
    rank: float
    path: str = ""
    content: str = ""
    place: int | None = None
    file: str = ""
    why: str = ""


def read_items(folder: Path, task: Task) -> list[Item]:
    """The rows of a run's suspects.csv, in its order, looked up in the data.

    Raises
    ------
    UserError
        No such table, one that cannot be read, or not one of its images is in the data.
    """
    table = folder / TABLE
    find = _Finder(task)
    items = [find(item) for item in _rows(table)]
    if all(item.place is None for item in items):
        why = f"; the first, {items[0].path or items[0].number}, {items[0].why}" if items else ""
        raise UserError(f"{table}: none of its {len(items)} images is a training image of {task.name} now{why}")
    return items


def _rows(table: Path) -> list[Item]:
    names, lines = table_rows(read_text(table, f"{table}:"), str(table))
    if missing := [name for name in _WANTED if name not in names]:
        raise UserError(f"{table}: no column {missing[0]!r}; it is not a table of suspects")
    items: dict[int, Item] = {}
    for line, row in lines:
        try:
            number, score, suspect = int(row["id"]), float(row["score"]), bool(int(row["suspect"]))
            rank = float(row.get("log_odds") or score)
        except ValueError:
            number = -1
        if number < 0 or number in items or not (math.isfinite(score) and math.isfinite(rank)):
            raise UserError(f"{table}, line {line}: an id that comes once, a score and a flag are wanted")
        target, path = uncell(row["target"]), uncell(row.get("path", ""))
        items[number] = Item(number, target, score, suspect, rank, path, row.get("content", ""))
    return list(items.values())


class _Finder:
    """Says of an image of a table where it is now, or why it is nowhere."""

    def __init__(self, task: Task) -> None:
        ids = task.train.ids.tolist()
        self._places = {number: place for place, number in enumerate(ids)}
        self._names = [task.target_names[target] for target in task.train.target.tolist()]
        self._files = task.files
        self._known = None if task.files is None else KnownFiles(task.files, task.digests, ids)
        self._parts = {path: part for path, part, _ in task.other_files or ()}

    def __call__(self, item: Item) -> Item:
        place, file, why = self._found(item)
        return replace(item, place=place, file=file, why=why)

    def _found(self, item: Item) -> tuple[int | None, str, str]:
        if self._known is not None and self._files is not None and item.path:
            number, why = self._known.find(item.path, item.content)
            if number is not None:
                return self._places[number], self._files[number], ""
            if why == CHANGED:
                return None, "", "is another image now"
            part = self._parts.get(item.path)
            return None, "", "is gone" if part is None else f"is a {part} image now"
        place = self._places.get(item.number)
        if place is None or self._names[place] != item.target:
            return None, "", "is of other data"
        return place, "", ""
