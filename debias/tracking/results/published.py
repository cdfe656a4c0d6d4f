"""Published figures with their sources, and the runs of ours that stand for the same thing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.settings import nearest
from debias.tracking.results.gather import flatten
from debias.tracking.results.summary import Line, Spread
from debias.vocabulary import STANDS_FOR

_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Column:
    """A column of a paper's table: the figure of the final model, and settings of its data (None: not made here)."""

    name: str
    figure: str
    config: Mapping[str, Any] | None


@dataclass(frozen=True)
class Paper:
    """A published table. `selection` is ours that chooses epochs by the same rule, or words for another one, or None.

    `settings` gives, for rows that need it, the settings that make the row, `method` and `read-out` among them.
    """

    key: str
    title: str
    source: str
    selection: str | None
    columns: Sequence[Column]
    rows: Mapping[str, Sequence[Spread | None]]
    n_seeds: int | None = None
    dataset: str = ""
    metric: str = ""
    rule: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def method_of(self, row: str) -> str:
        """The recipe that a row stands for."""
        return str(self.settings.get(row, {}).get("method", row))

    def figure_of(self, row: str, column: Column) -> str:
        """The figure of a cell; of another read-out than the final model where the row says so."""
        read_out = self.settings.get(row, {}).get("read-out")
        return f"{read_out}/{column.figure}" if read_out else column.figure

    def fits(self, line: Line, row: str, column: Column) -> bool:
        """Whether a line of ours was made as a cell was, as far as the paper says."""
        if column.config is None or line.method != self.method_of(row):
            return False
        wanted = {**column.config, **self.settings.get(row, {})}
        has = flatten(line.runs[0].config)
        plain = not has.get("reverse") and has.get("limit") is None
        if STANDS_FOR.get(str(has.get("dataset"))) == wanted["dataset"]:
            # The same images from its authors' files, who placed them.
            wanted = {**wanted, "dataset": has["dataset"], "placement": has.get("placement")}
        same = (has.get(name) == value for name, value in wanted.items() if name not in ("method", "read-out"))
        return plain and all(same)


@cache
def papers() -> dict[str, Paper]:
    """All published tables by key."""
    tables = json.loads(_FILE.read_text(encoding="utf-8"))
    return {
        key: Paper(
            key,
            table["title"],
            table["source"],
            table["selection"],
            [Column(**column) for column in table["columns"]],
            {row: [_spread(cell, table.get("seeds")) for cell in cells] for row, cells in table["rows"].items()},
            table.get("seeds"),
            table.get("dataset", ""),
            table.get("metric", ""),
            table.get("selected by", ""),
            table.get("settings", {}),
        )
        for key, table in tables.items()
    }


def find_papers(name: str) -> list[Paper]:
    """The tables of a name, or of all names that begin with it; `all` for every one.

    Raises
    ------
    UserError
        When there is none.
    """
    known = papers()
    found = [paper for key, paper in known.items() if name in (key, "all") or key.startswith(f"{name}-")]
    if not found:
        raise UserError(f"paper: no table is called {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    return found


def beside(line: Line, figure: str) -> dict[str, str]:
    """Published figures of a line by the column they belong to: one for each rule of selection."""
    cells: dict[str, str] = {}
    for paper in papers().values():
        for row, spreads in paper.rows.items():
            for column, spread in zip(paper.columns, spreads, strict=True):
                named = paper.figure_of(row, column) == figure and row == line.method
                if spread is not None and named and paper.fits(line, row, column):
                    name = f"published, {(paper.selection or 'selection not said').replace('_', ' ')}"
                    text = f"{spread} [{paper.title.split(',')[0]}]"
                    cells[name] = f"{cells[name]}; {text}" if name in cells else text
    return cells


def _spread(cell: Sequence[float | None] | None, n_seeds: int | None) -> Spread | None:
    return None if cell is None or cell[0] is None else Spread(cell[0], cell[1], n_seeds or 0)
