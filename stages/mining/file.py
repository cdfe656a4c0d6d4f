"""Suspects from a table: a suspects.csv that a person has looked through, or scores of another program."""

import csv
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from errors import UserError
from settings import Setting, nearest
from stages.base import Artifact, Context, Settings, Stage
from stages.scores import mining_figures, report_of, score_artifact


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
        read_scores(Path(own["path"]), own["column"])

    def content(self, settings: Settings) -> str | None:
        path = settings[self.name]["path"]
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train = ctx.own, ctx.train
        given = read_scores(Path(own["path"]), own["column"])
        ids = train.ids.tolist()
        unknown = given.keys() - set(ids)
        if unknown:
            raise UserError(
                f"mine_file.path={own['path']}: {len(unknown)} of {len(given)} ids are of no training image (the first "
                f"is {min(unknown)}); it was written for other data"
            )
        if len(given) < len(ids):
            ctx.say(f"{self.name}: {len(ids) - len(given)} training images have no row and count as aligned")
        score = torch.tensor([given.get(number, 0.0) for number in ids])
        report = report_of(mining_figures(score, own["threshold"], ctx.task.train))
        return {"conflict_score": score_artifact(train.ids, score, own["threshold"], self.name), "report": report}


def read_scores(path: Path, column: str) -> dict[int, float]:
    """Score by image id.

    Raises
    ------
    UserError
        With the line: no such file or column, an id that is no whole number or comes twice, a score outside 0 to 1.
    """
    where = f"mine_file.path={path}"
    scores: dict[int, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.DictReader(handle)
            names = rows.fieldnames or []
            for name in ("id", column):
                if name not in names:
                    raise UserError(f"{where}: no column {name!r}; it has {', '.join(names)}{nearest(name, names)}")
            for number, row in enumerate(rows, start=2):
                try:
                    key, score = int(row["id"]), float(row[column])
                except (TypeError, ValueError):
                    key, score = 0, math.nan
                if not 0 <= score <= 1:
                    raise UserError(
                        f"{where}, line {number}: a whole number in `id` and a number from 0 to 1 in `{column}` are "
                        f"wanted, not {row['id']!r} and {row[column]!r}"
                    )
                if key in scores:
                    raise UserError(f"{where}, line {number}: id {key} comes twice")
                scores[key] = score
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return scores
