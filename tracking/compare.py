"""Two or more methods side by side: `python -m tracking.compare --dataset colored_digits erm denetdm`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from metrics import FIGURES
from tracking.console import show
from tracking.runs import RunRecord, read_runs

# The final model's read-out, by what a method ends with.
_FINAL = ("target", "model", "shallow")


def main(arguments: Sequence[str]) -> int:
    """Print the newest completed run of each method on equal data, and what each gains over the first."""
    parser = argparse.ArgumentParser(prog="python -m tracking.compare", description=main.__doc__)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--dataset", default="colored_mnist")
    parser.add_argument("--store", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    newest: dict[str, RunRecord] = {}
    for record in read_runs(options.store):
        trained = record.status == "COMPLETED" and record.command == "train" and record.summary
        if trained and record.config["dataset"] == options.dataset and record.method in options.methods:
            same = {name: kept for name, kept in newest.items() if _setting(kept) == _setting(record)}
            newest = {**same, record.method: record}
    missing = [method for method in options.methods if method not in newest]
    if missing:
        print(
            f"error: no completed run of {', '.join(missing)} on {options.dataset} in {options.store}", file=sys.stderr
        )
        return 2
    records = [newest[method] for method in options.methods]
    config = records[0].config
    title = f"{options.dataset}, {100 * config['skew']:g} % conflicting, seed {config['seed']}: last epoch on test, %"
    show(comparison(records, title))
    for record in records:
        print(f"{record.method}: {record.folder}")
    return 0


def comparison(records: Sequence[RunRecord], title: str) -> Table:
    """A row per run with the final model's figures and, behind them, the gain over the first row."""
    rows = [(record, final_figures(record)) for record in records]
    used = [figure for figure in FIGURES if any(figure in figures for _, figures in rows)]
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("method")
    for figure in used:
        table.add_column(figure, justify="right")
    first = rows[0][1]
    for number, (record, figures) in enumerate(rows):
        cells = []
        for figure in used:
            if figure not in figures:
                cells.append("–")
            elif number == 0 or figure not in first:
                cells.append(f"{figures[figure]:.1f}")
            else:
                cells.append(f"{figures[figure]:.1f} ({figures[figure] - first[figure]:+.1f})")
        table.add_row(record.method + _teacher(record), *cells)
    return table


def final_figures(record: RunRecord) -> dict[str, float]:
    """Figures of a run's final model at the last epoch; of one taught by an oracle, too, which its record says."""
    for read_out in _FINAL:
        for selection in ("last", "last_of_oracle_teacher"):
            names = {figure: f"{read_out}/{figure}/{selection}" for figure in FIGURES}
            figures = {figure: record.summary[name] for figure, name in names.items() if name in record.summary}
            if figures:
                return figures
    return {}


def _setting(record: RunRecord) -> tuple[object, ...]:
    """What two runs must share to stand in one table."""
    names = ("skew", "severity", "placement", "reverse", "limit", "seed")
    return tuple(record.config.get(name) for name in names)


def _teacher(record: RunRecord) -> str:
    """A mark for a run whose last epoch was taught by weights that were chosen on the test set."""
    tainted = any(name.endswith("_of_oracle_teacher") for name in record.summary)
    return " (oracle teacher)" if tainted else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
