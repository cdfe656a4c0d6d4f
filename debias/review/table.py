"""reviewed.csv: all images of the data with the marks of those that were looked at, written for other commands."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from debias.data.reviewed import MARK, MARKS, WAS, WRONG_LABEL, suspect_by
from debias.data.split import Task
from debias.errors import UserError
from debias.harmless import cell, uncell
from debias.rawfiles import read_text, table_rows
from debias.review.items import Item
from debias.settings import nearest

RESULT = "reviewed.csv"
OF_FILES = ("path", "target", "split", "suspect", MARK, WAS, "content")
OF_OTHERS = ("id", "target", "suspect", MARK, WAS)


class Mark(NamedTuple):
    """mark : one of `MARKS`; label : the class it should be, empty where that was not said"""

    mark: str
    label: str = ""


class Row(NamedTuple):
    """A line of the table; item : None of an image that was not mined, such as one that was held out, or is new"""

    item: Item | None
    path: str
    target: str
    split: str
    content: str = ""
    bias: str = ""


def rows_of(task: Task, items: Sequence[Item], root: Path | None) -> list[Row]:
    """The lines of the table: training images in the order of the data, so that it is the same data, then the others.

    Images that are gone or were changed are left out. Of data that is not files there are only those that were mined.

    root : the folder below which the data's paths are; of paths elsewhere the whole is written
    """
    there = {item.place: item for item in items if item.place is not None}
    if task.files is None:
        ordered = (there[place] for place in sorted(place for place in there))
        return [Row(item, "", item.target, "train") for item in ordered]
    rows = []
    digests, train, names = task.digests or [""] * len(task.files), task.train, task.target_names
    biases = [""] * len(train) if train.bias is None else [(task.bias_names or ())[i] for i in train.bias.tolist()]
    for place, (number, target) in enumerate(zip(train.ids.tolist(), train.target.tolist(), strict=True)):
        path = below(task.files[number], root)
        rows.append(Row(there.get(place), path, names[target], "train", digests[number], biases[place]))
    columns = {"valid": task.valid, "test": task.test}
    seen = dict.fromkeys(columns, 0)
    for path, part, target in task.other_files or ():
        split, place = columns[part], seen[part]
        seen[part] += 1
        bias = "" if split is None or split.bias is None else (task.bias_names or ())[int(split.bias[place])]
        rows.append(Row(None, below(path, root), names[target], part, bias=bias))
    return rows


def below(path: str, root: Path | None) -> str:
    """A path as it is written below a folder; one that is not below it as it is."""
    if root is None or not path:
        return path
    short = os.path.relpath(path, root)
    return path if short.startswith("..") else short


def as_text(rows: Sequence[Row], marks: Mapping[int, Mark]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    of_files = any(row.path for row in rows)
    columns = [*(OF_FILES if of_files else OF_OTHERS), *(["bias"] if any(row.bias for row in rows) else [])]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        mark = Mark("") if row.item is None else marks.get(row.item.number, Mark(""))
        said = {
            **row._asdict(),
            "target": mark.label or row.target,
            "suspect": int(suspect_by(mark.mark, row.item is not None and row.item.suspect)),
            MARK: mark.mark,
            WAS: row.target if mark.label else "",
            "id": "" if row.item is None else row.item.number,
        }
        writer.writerow({name: cell(str(value)) for name, value in said.items()})
    return text.getvalue()


def read_marks(table: Path, items: Sequence[Item], classes: Sequence[str], root: Path | None) -> dict[int, Mark | None]:
    """What a table says of each of some images, by their ids: None where there is no mark.

    Images of files are known by path and content, or by content alone where they were moved; others by their ids.

    Raises
    ------
    UserError
        It cannot be read, has no column of marks, or a mark that is not known.
    """
    names, lines = table_rows(read_text(table, f"{table}:"), str(table))
    if MARK not in names:
        raise UserError(f"{table}: there is no column {MARK!r}; it has {', '.join(names)}")
    by_path = {path: item for item in items if item.path for path in (item.path, below(item.path, root))}
    by_path |= {below(item.file, root): item for item in items if item.file}
    by_id = {str(item.number): item for item in items if not item.path}
    by_content: dict[str, list[Item]] = {}
    for each in items:
        by_content.setdefault(each.content, []).append(each)
    found: dict[int, Mark | None] = {}
    for line, row in lines:
        mark, content = row[MARK].strip(), row.get("content", "")
        if mark and mark not in MARKS:
            raise UserError(f"{table}, line {line}: mark {mark!r} is none of {', '.join(MARKS)}{nearest(mark, MARKS)}")
        item: Item | None
        item = by_path.get(uncell(row.get("path", ""))) if row.get("path") else by_id.get(row.get("id", ""))
        if item is not None and content and item.content not in ("", content):
            item = None
        if item is None and content and len(by_content.get(content, ())) == 1:
            (item,) = by_content[content]
        if item is None:
            continue
        label = uncell(row.get("target", "")) if mark == WRONG_LABEL and row.get(WAS) else ""
        found[item.number] = Mark(mark, label if label in classes else "") if mark else None
    return found
