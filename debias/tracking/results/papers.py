"""A paper's table with ours next to theirs, and the commands that fill its empty cells."""

from collections.abc import Container, Sequence
from typing import Any

from debias.catalogue import default_for, known_settings
from debias.data.registry import DATASETS
from debias.stages.recipes import RECIPES
from debias.tracking.folders import RunRecord
from debias.tracking.results.gather import flatten
from debias.tracking.results.published import Column, Paper
from debias.tracking.results.records import settings_of
from debias.tracking.results.summary import Line, data_of, lines_of
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import SELECTIONS


def paper_table(
    paper: Paper,
    records: Sequence[RunRecord],
    selection: str | None = None,
    *,
    inline: bool = False,
    methods: Container[str] | None = None,
) -> Table:
    """The paper's rows and columns; behind each of theirs a column of ours, `mean ± std (n)`.

    Parameters
    ----------
    paper
        The published table.
    records
        Any runs; only finished ones on equally made data count.
    selection
        Of ours; None: the paper's rule where it is one of ours, else the last epoch.
    inline
        Whether an empty cell is the command that fills it, or a number that leads to the command below the table.
    methods
        Ours whose rows are shown; None: all rows.
    """
    chosen = selection or (paper.selection if paper.selection in SELECTIONS else "last")
    lines = _lines(records)
    notes: list[str] = []
    commands: list[str] = []
    rows = []
    for row, spreads in paper.rows.items():
        if methods is not None and paper.method_of(row) not in methods:
            continue
        cells = [row]
        for column, spread in zip(paper.columns, spreads, strict=True):
            cells.append(NOTHING if spread is None else str(spread))
            cells.append(_ours(paper, row, column, lines, chosen, notes, commands))
            if inline and cells[-1].startswith("["):
                cells[-1] = commands[-1]
        rows.append(cells)
    heads = ["method", *(name for column in paper.columns for name in (column.name, f"{column.name} ours"))]
    theirs = paper.rule or paper.selection or "the paper does not say how epochs are selected"
    n = f", n = {paper.n_seeds}" if paper.n_seeds else ""
    about = [
        f"Published ({paper.source}): {paper.metric or 'accuracy, %'}; {theirs}{n}.",
        f"Ours: {chosen}, with the number of seeds in brackets.",
    ]
    about += [f"Data: {paper.dataset}."] if paper.dataset else []
    fill = [f"[{number}] {command}" for number, command in enumerate(commands, start=1)]
    return Table(paper.title, heads, rows, text_columns=("method",), notes=[*about, *notes, *fill])


def _lines(records: Sequence[RunRecord]) -> list[Line]:
    made: dict[Any, list[RunRecord]] = {}
    for record in records:
        if record.finished:
            made.setdefault(data_of(record), []).append(record)
    return [line for runs in made.values() for line in lines_of(runs)]


def _ours(
    paper: Paper, row: str, column: Column, lines: Sequence[Line], selection: str, notes: list[str], commands: list[str]
) -> str:
    figure = paper.figure_of(row, column)
    fitting = [line for line in lines if paper.fits(line, row, column) and line.spread(figure, selection)]
    if not fitting:
        command = fill_command(paper, row, column)
        if command is None:
            note = _why_not(column)
            notes += [note] if note and note not in notes else []
            return NOTHING
        if command not in commands:
            commands.append(command)
        return f"[{commands.index(command) + 1}]"
    # The line nearest to the program's own settings; of equals the one with most seeds.
    line = min(fitting, key=lambda line: (len(_unusual(line, paper, row, column)), -len(line.runs)))
    odd = _unusual(line, paper, row, column)
    mark = ""
    if odd:
        note = f"{row} at {column.name} was run with {', '.join(odd)}"
        mark = "*" * (1 + len([other for other in notes if " was run with " in other]))
        notes.append(f"{mark} {note}")
    spread = line.spread(figure, selection)
    assert spread is not None
    return f"{spread} ({spread.n}){mark}"


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
    known = known_settings()
    odd = []
    for name, value in settings_of(record).items():
        if name in asked or name not in known:
            continue
        usual = default_for(name, record.config["method"], str(record.config["dataset"]))
        if value != usual:
            odd.append(f"{name}={value}")
    return odd
