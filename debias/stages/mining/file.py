"""Suspects from a table: a suspects.csv that the user has looked through, or scores of another program."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from debias.data.known import CHANGED, KnownFiles
from debias.data.reviewed import DROP, MARK, MARKS, WAS, WRONG_LABEL, left_out, suspect_by
from debias.data.split import Split, Task
from debias.digests import digest_of
from debias.errors import UserError
from debias.harmless import uncell
from debias.rawfiles import read_text, table_rows
from debias.settings import Setting, nearest
from debias.stages.common.scores import mined_scores, mining_figures, report_of
from debias.training.stage import Artifact, Context, Settings, Stage

# `auto` chooses between the columns of a suspects.csv.
AUTO, SCORES, FLAGS = "auto", "score", "suspect"


class MineFile(Stage):
    """Reads a conflict score per training image from a CSV file. Images without a row count as aligned.

    Of a suspects.csv it takes the scores, and of a reviewed.csv, which has a column `mark`, the flags as corrected by
    the marks. Flags are also taken where there are no scores, and where no threshold of the scores gives them: then
    somebody has corrected them.
    """

    name = "mine_file"
    summary = "suspects: a CSV file of scores or marks, such as a suspects.csv or reviewed.csv that was looked through"
    gives = ("conflict_score",)
    takes_vector = True
    shared = ()
    settings: ClassVar[Mapping[str, Setting]] = {
        "path": Setting(
            None, "CSV file with a column `id` or `path` and one of scores or marks", optional=True, kind=str
        ),
        "column": Setting(
            AUTO,
            "column that is read, numbers from 0 to 1; auto: `suspect`, corrected by `mark`, where there are marks, no "
            "scores, or flags that somebody changed; else `score`",
        ),
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
        own, train, threshold = ctx.own, ctx.train, ctx.own["threshold"]
        where = f"mine_file.path={own['path']}"
        table = read_table(Path(own["path"]), own["column"], threshold)
        for line in table.notes:
            ctx.say(f"{self.name}: {line}")
        rows = table.rows
        by_file = ctx.task.files is not None and any(row.path for row in rows)
        ids = train.ids.tolist()
        given, left = _of_files(rows, ctx.task, where) if by_file else (_of_ids(rows, ctx.task, train, where), [])
        elsewhere = set() if ctx.task.other_files is None else {path for path, _, _ in ctx.task.other_files}
        if moved := [row for row in left if row.score > threshold and row.path in elsewhere]:
            ctx.say(f"{self.name}: {len(moved)} marked images are test images now, the first {moved[0].path}")
            left = [row for row in left if row not in moved]
        if gone := [row for row in left if row.score > threshold]:
            raise UserError(
                f"{where}, line {gone[0].line}: {gone[0].path} is marked but no longer a training image, nor is its "
                f"content in another file ({len(gone)} such rows); take the row out, or put the file back"
            )
        if left:
            ctx.say(f"{self.name}: {len(left)} rows that are not marked are of no training image and are skipped")
        known = set(ids)
        if held := [number for number, score in given.items() if score > threshold and number not in known]:
            ctx.say(f"{self.name}: {len(held)} marked images are among the held-out ones now and are not trained on")
        if missing := len(known - given.keys()):
            ctx.say(f"{self.name}: {missing} training images have no row and count as aligned")
        score = torch.tensor([given.get(number, 0.0) for number in ids])
        report = report_of(mining_figures(score, threshold, ctx.task))
        return {"conflict_score": mined_scores(ctx, score, threshold), "report": report}


@dataclass(frozen=True)
class Row:
    """A line of a table; `target`, `path` and `content` (of its file, hex) are empty where it does not say them.

    id : None in a table that knows its images by path
    """

    line: int
    id: int | None
    score: float
    target: str = ""
    path: str = ""
    content: str = ""


class Table(NamedTuple):
    """rows : of training images; notes : lines for the user on what was read"""

    rows: list[Row]
    notes: list[str]


def _of_ids(rows: Sequence[Row], task: Task, train: Split, where: str) -> dict[int, float]:
    """Scores by id; refused when an id is of no training image, or of one of another target than the row says."""
    targets = dict(zip(train.ids.tolist(), train.target.tolist(), strict=True))
    ids = [row.id for row in rows if row.id is not None]
    if len(ids) < len(rows):
        raise UserError(f"{where}: images of {task.name} are known by their ids, and there is no column 'id'")
    unknown = [number for number in ids if number not in targets]
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} of {len(rows)} ids are of no training image (the first is {min(unknown)}); it "
            "was written for other data"
        )
    for number, row in zip(ids, rows, strict=True):
        name = task.target_names[targets[number]]
        if row.target in task.target_names and row.target != name:
            raise UserError(
                f"{where}, line {row.line}: image {number} is of target {name}, not {row.target}; the table was "
                "written for other data"
            )
    return {number: row.score for number, row in zip(ids, rows, strict=True)}


def _of_files(rows: Sequence[Row], task: Task, where: str) -> tuple[dict[int, float], list[Row]]:
    """Scores by the id that a row's file has now, held out or not, and the rows whose file is no training image."""
    assert task.files is not None
    used = task.train.ids.tolist() + ([] if task.valid is None or not _held_out(task) else task.valid.ids.tolist())
    known = KnownFiles(task.files, task.digests, used)
    given: dict[int, float] = {}
    left: list[Row] = []
    for row in rows:
        number, why = known.find(row.path, row.content)
        if why == CHANGED:
            raise UserError(
                f"{where}, line {row.line}: {row.path} is another image than when the table was made; mine again, or "
                "take the row out"
            )
        if number is None:
            left.append(row)
        else:
            given[number] = row.score
    return given, left


def _held_out(task: Task) -> bool:
    """Whether the validation images were held out of the training images, so that ids are of the same files."""
    return task.selection == "valid"


def read_rows(path: Path, column: str = AUTO) -> list[Row]:
    """The rows of a table; errors as of `read_table`."""
    return read_table(path, column).rows


def read_table(path: Path, column: str = AUTO, threshold: float = 0.5) -> Table:
    """The rows of a table, and what is to be said about it.

    Raises
    ------
    UserError
        With the line: no such file or column, an id that is not a whole number, an id or path that comes twice, a
        score outside 0 to 1, a mark that is not known.
    """
    where = f"mine_file.path={path}"
    names, lines = table_rows(_read(path), where)
    column, notes = _column(names, lines, column, threshold)
    by_path = "id" not in names and "path" in names
    for name in ("path" if by_path else "id", column):
        if name not in names:
            raise UserError(f"{where}: no column {name!r}; it has {', '.join(names)}{nearest(name, names)}")
    # Of a page's table the rows of other parts are there for `labels`, and its marks say more than its flags.
    marked = MARK in names and column == FLAGS
    found: dict[int | str, Row] = {}
    out = 0
    for number, row in lines:
        if MARK in names and row.get("split", "train") not in ("", "train"):
            continue
        more = {name: uncell(row.get(name, "")) for name in ("target", "path", "content")}
        mark = row.get(MARK, "").strip() if marked else ""
        if mark and mark not in MARKS:
            raise UserError(
                f"{where}, line {number}: mark {mark!r} is none of {', '.join(MARKS)}{nearest(mark, MARKS)}"
            )
        try:
            key, score = None if by_path else int(row["id"]), float(row[column])
        except (TypeError, ValueError):
            key, score = None, math.nan
        if not 0 <= score <= 1:
            raise UserError(
                f"{where}, line {number}: a whole number in `id` and a number from 0 to 1 in `{column}` are "
                f"wanted, not {row.get('id', '')!r} and {row[column]!r}"
            )
        known: int | str = more["path"] if key is None else key
        if known in found:
            raise UserError(f"{where}, line {number}: {'path' if by_path else 'id'} {known} comes twice")
        if mark:
            score = float(suspect_by(mark, score > threshold))
            out += left_out(mark, row.get(WAS, ""))
        found[known] = Row(number, key, score, **more)
    if out:
        notes.append(
            f"{out} images marked {DROP} or {WRONG_LABEL} count as aligned; labels={path.name} leaves them out"
        )
    return Table(list(found.values()), notes)


def _column(
    names: Sequence[str], lines: Sequence[tuple[int, Mapping[str, str]]], column: str, threshold: float
) -> tuple[str, list[str]]:
    """The column that `auto` is, and lines about flags that are taken or are not."""
    if column != AUTO or FLAGS not in names:
        return (SCORES if column == AUTO else column), []
    if MARK in names or SCORES not in names:
        return FLAGS, []
    # Flags that a miner set are those above some score. What is no number is refused later on.
    pairs = [(_number(row[SCORES]), _number(row[FLAGS])) for _, row in lines]
    flagged, others = [s for s, flag in pairs if flag > 0.5], [s for s, flag in pairs if flag <= 0.5]
    if flagged and others and min(flagged) < max(others):
        return FLAGS, [f"no threshold of `{SCORES}` gives the column `{FLAGS}`, so it was corrected and is taken"]
    if unlike := sum((score > threshold) != (flag > 0.5) for score, flag in pairs):
        return SCORES, [
            f"`{SCORES}` is taken, by which {unlike} images are flagged otherwise than in `{FLAGS}`; "
            f"mine_file.column={FLAGS} takes that"
        ]
    return SCORES, []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read(path: Path) -> str:
    return read_text(path, f"mine_file.path={path}:")
