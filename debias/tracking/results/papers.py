"""A paper's table with ours next to theirs, and the commands that fill its empty cells."""

from collections.abc import Container, Sequence

from debias.tracking.folders import RunRecord
from debias.tracking.results.cells import RULE, Cell, cells_of, selection_of
from debias.tracking.results.published import Paper
from debias.tracking.results.tables import NOTHING, Table


def paper_table(
    paper: Paper,
    records: Sequence[RunRecord],
    selection: str | None = None,
    *,
    inline: bool = False,
    methods: Container[str] | None = None,
) -> Table:
    """The paper's rows and columns; behind each of theirs a column of ours, `mean ± std (n), verdict`.

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
    notes: list[str] = []
    commands: list[str] = []
    rows = []
    for cells in cells_of(paper, records, selection):
        if methods is not None and paper.method_of(cells[0].row) not in methods:
            continue
        texts = [cells[0].row]
        for cell in cells:
            texts.append(NOTHING if cell.published is None else str(cell.published))
            texts.append(_ours(cell, notes, commands))
            if inline and texts[-1].startswith("["):
                texts[-1] = commands[-1]
        rows.append(texts)
    heads = ["method", *(name for column in paper.columns for name in (column.name, f"{column.name} ours"))]
    theirs = paper.rule or paper.selection or "the paper does not say how epochs are selected"
    n = f", n = {paper.n_seeds}" if paper.n_seeds else ""
    about = [
        f"Published ({paper.source}): {paper.metric or 'accuracy, %'}; {theirs}{n}.",
        f"Ours: {selection_of(paper, selection)}, with the number of seeds in brackets. {RULE}.",
    ]
    about += [f"Data: {paper.dataset}."] if paper.dataset else []
    fill = [f"[{number}] {command}" for number, command in enumerate(commands, start=1)]
    return Table(paper.title, heads, rows, text_columns=("method",), notes=[*about, *notes, *fill])


def _ours(cell: Cell, notes: list[str], commands: list[str]) -> str:
    if cell.ours is None:
        if cell.command is None:
            notes += [cell.why_not] if cell.why_not and cell.why_not not in notes else []
            return NOTHING
        if cell.command not in commands:
            commands.append(cell.command)
        return f"[{commands.index(cell.command) + 1}]"
    mark = ""
    if cell.odd:
        mark = "*" * (1 + len([other for other in notes if " was run with " in other]))
        notes.append(f"{mark} {cell.row} at {cell.column.name} was run with {', '.join(cell.odd)}")
    verdict = f", {cell.verdict}" if cell.verdict else ""
    return f"{cell.ours} ({cell.ours.n}){mark}{verdict}"
