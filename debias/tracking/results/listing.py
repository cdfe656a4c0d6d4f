"""Runs one by one: a list with columns of choice, and methods side by side with the gain over the first."""

from collections.abc import Sequence
from typing import Any

from debias.errors import UserError
from debias.settings import nearest
from debias.tracking.folders import RunRecord
from debias.tracking.results.gather import values_of
from debias.tracking.results.summary import data_of
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import FIGURES, TAINT


def run_table(records: Sequence[RunRecord], columns: Sequence[str], title: str = "Runs") -> Table:
    """A row for each run.

    Parameters
    ----------
    records
        The runs.
    columns
        Each a setting or a figure a/b/c, and the column's head behind a colon: "skew", "target/unbiased/last:target".
        Of several names joined by "|" the first that a run has is shown.

    Raises
    ------
    UserError
        A name that no run has.
    """
    asked = [(spec.partition(":")[0].split("|"), spec.partition(":")[2] or spec) for spec in columns]
    has = [{**values_of(record), **record.summary} for record in records]
    known = set().union(*has)
    for names, _ in asked:
        if records and not any(name in known for name in names):
            raise UserError(f"column: no run has {' or '.join(names)}{nearest(names[0], known)}")
    rows = []
    for one in has:
        shown = [next((name for name in names if name in one), "") for names, _ in asked]
        rows.append([NOTHING if not name else f"{one[name]:.2f}" if "/" in name else str(one[name]) for name in shown])
    texts = [head for number, (_, head) in enumerate(asked) if any(not _numeric(row[number]) for row in rows)]
    return Table(title, [head for _, head in asked], rows, text_columns=texts)


def comparison(records: Sequence[RunRecord], title: str) -> Table:
    """A row per run with the final model's figures and, behind them, the gain over the first row."""
    rows = [(record, last_figures(record)) for record in records]
    used = [figure for figure in FIGURES if any(figure in figures for _, figures in rows)]
    first = rows[0][1]
    cells = []
    for number, (record, figures) in enumerate(rows):
        cells.append([record.method + _teacher(record)])
        for figure in used:
            if figure not in figures:
                cells[-1].append(NOTHING)
            elif number == 0 or figure not in first:
                cells[-1].append(f"{figures[figure]:.1f}")
            else:
                cells[-1].append(f"{figures[figure]:.1f} ({figures[figure] - first[figure]:+.1f})")
    return Table(title, ["method", *used], cells, text_columns=("method",))


def newest_of_each(records: Sequence[RunRecord], methods: Sequence[str]) -> list[RunRecord]:
    """The newest finished run of each method, all on equal data and seed.

    Raises
    ------
    UserError
        When a method has none.
    """
    alike: dict[tuple[Any, ...], dict[str, RunRecord]] = {}
    for record in records:
        if record.finished and record.method in methods:
            alike.setdefault(_data(record), {})[record.method] = record
    whole = [found for found in alike.values() if set(methods) <= found.keys()]
    if not whole:
        found = {method for group in alike.values() for method in group}
        missing = [method for method in methods if method not in found]
        if missing:
            raise UserError(f"no completed run of {', '.join(missing)} among these {len(records)} runs")
        raise UserError(f"no completed runs of {', '.join(methods)} on equal data and with equal seeds")
    newest = max(whole, key=lambda group: max(group[method].started for method in methods))
    return [newest[method] for method in methods]


def comparison_title(record: RunRecord) -> str:
    """What the runs of a comparison share."""
    config = record.config
    share = "" if record.conflicting is None else f", {100 * record.conflicting:g} % conflicting"
    return f"{config['dataset']}{share}, seed {config.get('seed')}: last epoch on test, %"


def last_figures(record: RunRecord) -> dict[str, float]:
    """Figures of a run's final model at the last epoch; of one taught by an oracle, too, which its record says."""
    for selection in ("last", f"last{TAINT}"):
        names = {figure: f"{record.final_read_out}/{figure}/{selection}" for figure in FIGURES}
        figures = {figure: record.summary[name] for figure, name in names.items() if name in record.summary}
        if figures:
            return figures
    return {}


def _data(record: RunRecord) -> tuple[Any, ...]:
    """What two runs must share to be compared."""
    return (*data_of(record), record.conflicting, record.config.get("seed"))


def _teacher(record: RunRecord) -> str:
    """A mark for a run whose last epoch was taught by weights that were chosen on the test set."""
    return " (oracle teacher)" if any(name.endswith(TAINT) for name in record.summary) else ""


def _numeric(text: str) -> bool:
    return text == NOTHING or text.lstrip("-").replace(".", "", 1).isdigit()
