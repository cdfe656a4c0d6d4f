"""Suspects from a table: a suspects.csv that the user has looked through, or scores of another program."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from data.split import Split, Task
from digests import digest_of
from errors import UserError
from harmless import uncell
from rawfiles import read_text, table_rows
from settings import Setting, nearest
from stages.common.scores import mined_scores, mining_figures, report_of
from training.stage import Artifact, Context, Settings, Stage


class MineFile(Stage):
    """Reads a conflict score per training image from a CSV file. Images without a row count as aligned."""

    name = "mine_file"
    summary = "suspects: a CSV file of ids and scores, such as a suspects.csv that was looked through"
    gives = ("conflict_score",)
    takes_vector = True
    shared = ()
    settings: ClassVar[Mapping[str, Setting]] = {
        "path": Setting(None, "CSV file with a column `id` and one of scores from 0 to 1", optional=True, kind=str),
        "column": Setting("score", "column that is read; `suspect` takes the flags of a suspects.csv"),
        "threshold": Setting(0.5, "images with a higher score are suspects", low=0, high=1),
    }

    def check(self, settings: Settings) -> None:
        own = settings[self.name]
        if own["path"] is None:
            raise UserError("mine_file reads a file: set mine_file.path=FILE.csv")
        read_rows(Path(own["path"]), own["column"])

    def content(self, settings: Settings) -> str | None:
        path = settings[self.name]["path"]
        return None if path is None else digest_of([_read(Path(path)).encode()])

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train = ctx.own, ctx.train
        where = f"mine_file.path={own['path']}"
        rows = read_rows(Path(own["path"]), own["column"])
        by_file = ctx.task.files is not None and any(row.path for row in rows)
        ids = train.ids.tolist()
        given, left = _of_files(rows, ctx.task, ids, where) if by_file else (_of_ids(rows, ctx.task, train, where), [])
        if gone := [row for row in left if row.score > own["threshold"]]:
            raise UserError(
                f"{where}, line {gone[0].line}: {gone[0].path} is marked but no longer a training image, nor is its "
                f"content in another file ({len(gone)} such rows); take the row out, or put the file back"
            )
        if left:
            ctx.say(f"{self.name}: {len(left)} rows that are not marked are of no training image and are skipped")
        if len(given) < len(ids):
            ctx.say(f"{self.name}: {len(ids) - len(given)} training images have no row and count as aligned")
        score = torch.tensor([given.get(number, 0.0) for number in ids])
        report = report_of(mining_figures(score, own["threshold"], ctx.task))
        return {"conflict_score": mined_scores(ctx, score, own["threshold"]), "report": report}


@dataclass(frozen=True)
class Row:
    """A line of a table; `target`, `path` and `content` (of its file, hex) are empty where it does not say them."""

    line: int
    id: int
    score: float
    target: str = ""
    path: str = ""
    content: str = ""


def _of_ids(rows: Sequence[Row], task: Task, train: Split, where: str) -> dict[int, float]:
    """Scores by id; refused when an id is of no training image, or of one of another target than the row says."""
    targets = dict(zip(train.ids.tolist(), train.target.tolist(), strict=True))
    unknown = [row.id for row in rows if row.id not in targets]
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} of {len(rows)} ids are of no training image (the first is {min(unknown)}); it "
            "was written for other data"
        )
    for row in rows:
        name = task.target_names[targets[row.id]]
        if row.target in task.target_names and row.target != name:
            raise UserError(
                f"{where}, line {row.line}: image {row.id} is of target {name}, not {row.target}; the table was "
                "written for other data"
            )
    return {row.id: row.score for row in rows}


def _of_files(rows: Sequence[Row], task: Task, ids: Sequence[int], where: str) -> tuple[dict[int, float], list[Row]]:
    """Scores by the id that a row's file has now, and the rows whose file is none of the training images.

    A file is known by its path or, when it was moved, by its content. Positions say nothing: one file more or less
    moves all that come after it.
    """
    assert task.files is not None
    digests = task.digests or ("",) * len(task.files)
    by_path = {task.files[number]: number for number in ids}
    by_content: dict[str, list[int]] = {}
    for number in ids:
        by_content.setdefault(digests[number], []).append(number)
    given: dict[int, float] = {}
    left: list[Row] = []
    for row in rows:
        place = by_path.get(row.path)
        if place is not None and row.content and digests[place] and digests[place] != row.content:
            raise UserError(
                f"{where}, line {row.line}: {row.path} is another image than when the table was made; mine again, or "
                "take the row out"
            )
        if place is None and row.content and len(by_content.get(row.content, ())) == 1:
            (place,) = by_content[row.content]
        if place is None:
            left.append(row)
        else:
            given[place] = row.score
    return given, left


def read_rows(path: Path, column: str) -> list[Row]:
    """The rows of a table.

    Raises
    ------
    UserError
        With the line: no such file or column, an id that is not a whole number or comes twice, a score outside 0 to 1.
    """
    where = f"mine_file.path={path}"
    found: dict[int, Row] = {}
    names, rows = table_rows(_read(path), where)
    for name in ("id", column):
        if name not in names:
            raise UserError(f"{where}: no column {name!r}; it has {', '.join(names)}{nearest(name, names)}")
    for number, row in rows:
        try:
            key, score = int(row["id"]), float(row[column])
        except (TypeError, ValueError):
            key, score = 0, math.nan
        if not 0 <= score <= 1:
            raise UserError(
                f"{where}, line {number}: a whole number in `id` and a number from 0 to 1 in `{column}` are "
                f"wanted, not {row['id']!r} and {row[column]!r}"
            )
        if key in found:
            raise UserError(f"{where}, line {number}: id {key} comes twice")
        more = {name: uncell(row.get(name, "")) for name in ("target", "path", "content")}
        found[key] = Row(number, key, score, **more)
    return list(found.values())


def _read(path: Path) -> str:
    return read_text(path, f"mine_file.path={path}:")
