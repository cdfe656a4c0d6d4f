"""The cells of a paper's table: what was published, ours where it was made so, and how the two compare."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debias.catalogue import default_for, known_settings
from debias.data.registry import DATASETS
from debias.errors import UserError
from debias.stages.recipes import RECIPES
from debias.tracking.folders import RunRecord
from debias.tracking.results.gather import flatten
from debias.tracking.results.published import Column, Paper
from debias.tracking.results.records import settings_of
from debias.tracking.results.summary import Line, Spread, data_of, lines_of
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import SELECTIONS

# Points by which ours may differ from a published mean, beyond the published standard deviation, and agree with it.
LEEWAY = 1.0
AGREES, ABOVE, BELOW, NOT_RUN, NOT_HERE = "agrees", "above", "below", "not run", "not built in"
RULE = f"agrees: no further from the published mean than its standard deviation and {LEEWAY:g} point"
REASONS = ("table", "row", "column", "why")


@dataclass(frozen=True)
class Cell:
    """One published figure and ours.

    ours : None where nothing was made so; odd : settings of ours that neither the program nor the paper's row asks for
    command : fills the cell; None where method or data are not built in, and `why_not` may say more
    """

    row: str
    column: Column
    published: Spread | None
    ours: Spread | None = None
    line: Line | None = None
    odd: Sequence[str] = field(default_factory=tuple)
    command: str | None = None
    why_not: str = ""

    @property
    def verdict(self) -> str:
        """How ours compares with what was published; nothing where nothing was."""
        if self.published is None:
            return ""
        if self.ours is None:
            return NOT_HERE if self.command is None else NOT_RUN
        far = self.ours.mean - self.published.mean
        if abs(far) <= (self.published.std or 0.0) + LEEWAY:
            return AGREES
        return ABOVE if far > 0 else BELOW


def selection_of(paper: Paper, selection: str | None) -> str:
    """The selection of ours: the one asked for, else the paper's rule where it is one of ours, else the last epoch."""
    return selection or (paper.selection if paper.selection in SELECTIONS else "last")


def cells_of(paper: Paper, records: Sequence[RunRecord], selection: str | None = None) -> list[list[Cell]]:
    """Every cell, row by row.

    records : any runs; only finished ones on equally made data count
    selection : see `selection_of`
    """
    made: dict[Any, list[RunRecord]] = {}
    for record in records:
        if record.finished:
            made.setdefault(data_of(record), []).append(record)
    lines = [line for runs in made.values() for line in lines_of(runs)]
    chosen = selection_of(paper, selection)
    return [
        [
            _cell(paper, row, column, spread, lines, chosen)
            for column, spread in zip(paper.columns, spreads, strict=True)
        ]
        for row, spreads in paper.rows.items()
    ]


def _cell(
    paper: Paper, row: str, column: Column, published: Spread | None, lines: Sequence[Line], selection: str
) -> Cell:
    figure = paper.figure_of(row, column)
    command, why_not = fill_command(paper, row, column), _why_not(column)
    fitting = [line for line in lines if paper.fits(line, row, column) and line.spread(figure, selection)]
    if not fitting:
        return Cell(row, column, published, command=command, why_not=why_not)
    # The line nearest to the program's own settings; of equals the one with most seeds.
    line = min(fitting, key=lambda line: (len(_unusual(line, paper, row, column)), -len(line.runs)))
    odd = _unusual(line, paper, row, column)
    return Cell(row, column, published, line.spread(figure, selection), line, odd, command, why_not)


def fill_command(paper: Paper, row: str, column: Column) -> str | None:
    """The command whose runs fill a cell; None where the method or the data is not built in."""
    method = paper.method_of(row)
    if column.config is None or method not in RECIPES:
        return None
    if str(column.config["dataset"]) not in DATASETS or _why_not(column):
        return None
    settings = {"method": method, **column.config, **paper.settings.get(row, {})}
    words = " ".join(f"{name}={value}" for name, value in settings.items() if name != "read-out")
    seeds = " ".join(str(seed) for seed in range(1, (paper.n_seeds or 3) + 1))
    return f"for seed in {seeds}; do python main.py with {words} seed=$seed; done"


def _why_not(column: Column) -> str:
    """Why a cell of a known data set cannot be had here; empty where it can."""
    dataset = str((column.config or {}).get("dataset"))
    if dataset in DATASETS and not DATASETS[dataset].has_skew and {"skew", "rho"} & set(column.config or {}):
        return (
            f"{column.name} cannot be had: {dataset} is read as it is handed out, with one share of conflicting images "
            "that no setting chooses."
        )
    return ""


def _unusual(line: Line, paper: Paper, row: str, column: Column) -> list[str]:
    """Settings of a line that are neither the program's defaults nor what the paper's row or column asks for."""
    record = line.runs[0]
    asked = {*flatten(paper.settings.get(row, {})), *(column.config or {}), "dataset", "method", "skew", "seed"}
    known, dataset = known_settings(), str(record.config["dataset"])
    odd = [f"dataset={dataset}"] if column.config and dataset != column.config["dataset"] else []
    for name, value in settings_of(record).items():
        if name in asked or name not in known:
            continue
        if value != default_for(name, record.config["method"], dataset):
            odd.append(f"{name}={value}")
    return odd


def cells_table(
    paper: Paper, records: Sequence[RunRecord], selection: str | None, reasons: Sequence[Mapping[str, str]]
) -> Table:
    """A row for each published figure: ours, the difference, the verdict, n, device and what is known of the reason.

    reasons : rows of `read_reasons`
    """
    chosen = selection_of(paper, selection)
    cells = [cell for row in cells_of(paper, records, selection) for cell in row if cell.published is not None]
    commands = list(dict.fromkeys(sweep_command(paper, cell, cells) for cell in cells if cell.verdict == NOT_RUN))
    rows = []
    for cell in cells:
        assert cell.published is not None
        why = [reason_for(reasons, paper.key, cell), *([f"with {', '.join(cell.odd)}"] if cell.odd else [])]
        if cell.verdict == NOT_RUN:
            why.append(f"[{commands.index(sweep_command(paper, cell, cells)) + 1}]")
        found = cell.ours
        rows.append(
            [
                cell.row,
                cell.column.name,
                str(cell.published),
                NOTHING if found is None else str(found),
                NOTHING if found is None else f"{found.mean - cell.published.mean:+.2f}",
                cell.verdict,
                NOTHING if found is None else str(found.n),
                NOTHING if cell.line is None else str(cell.line.runs[0].device or NOTHING),
                "; ".join(part for part in why if part) or NOTHING,
            ]
        )
    heads = ["method", "column", "published", "ours", "difference", "verdict", "n", "device", "why, or command"]
    counts = ", ".join(
        f"{sum(cell.verdict == verdict for cell in cells)} {verdict}"
        for verdict in (AGREES, ABOVE, BELOW, NOT_RUN, NOT_HERE)
    )
    theirs = paper.rule or paper.selection or "the paper does not say how epochs are selected"
    about = [
        f"{len(cells)} cells: {counts}.",
        f"Published ({paper.source}): {paper.metric or 'accuracy, %'}; {theirs}. Ours: {chosen}. {RULE}.",
    ]
    texts = ("method", "column", "verdict", "device", "why, or command")
    numbered = [f"[{number}] {command}" for number, command in enumerate(commands, start=1)]
    return Table(paper.title, heads, rows, text_columns=texts, notes=[*about, *numbered])


def sweep_command(paper: Paper, cell: Cell, cells: Sequence[Cell]) -> str:
    """The sweep that fills a cell that was not run, and with it others of its row that differ in one setting of the
    data."""
    config = dict(cell.column.config or {})
    alike = [
        other
        for other in cells
        if other.verdict == NOT_RUN
        and other.row == cell.row
        and (other.column.config or {}).get("dataset") == config["dataset"]
    ]
    configs = [dict(other.column.config or {}) for other in alike]
    varying = [name for name in config if any(other.get(name) != config[name] for other in configs)]
    if len(varying) == 1 and all(set(other) == set(config) for other in configs):
        config[varying[0]] = ",".join(dict.fromkeys(str(other[varying[0]]) for other in configs))
    settings = {"method": paper.method_of(cell.row), **config, **paper.settings.get(cell.row, {})}
    words = " ".join(f"{name}={value}" for name, value in settings.items() if name != "read-out")
    return f"python sweep.py with {words} seed=1..{paper.n_seeds or 3}"


def read_reasons(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with the columns table, row, column, why; an empty row or column stands for all.

    Raises
    ------
    UserError
        When it cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--reasons {path}: cannot be read ({error})") from error
    if tuple(reader.fieldnames or ()) != REASONS or any(None in row or None in row.values() for row in rows):
        raise UserError(f"--reasons {path}: every line must have the columns {', '.join(REASONS)}")
    return rows


def reason_for(reasons: Sequence[Mapping[str, str]], key: str, cell: Cell) -> str:
    """What the first row that is about a cell says; one with a verdict before it, `below: …`, only for such a cell."""
    for row in reasons:
        if row["table"] == key and row["row"] in ("", cell.row) and row["column"] in ("", cell.column.name):
            verdict, sign, rest = row["why"].partition(": ")
            if sign and verdict in (AGREES, ABOVE, BELOW, NOT_RUN, NOT_HERE):
                if verdict != cell.verdict:
                    continue
                return rest
            return row["why"]
    return ""
