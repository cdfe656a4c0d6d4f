"""Commands that print tables of runs: means over seeds, papers, lists, comparisons, and CSV files as they are."""

import argparse
import csv
import io
from pathlib import Path

from debias.commands.results.command import SIGNS, Command
from debias.commands.results.sources import FILTERS, add_places, add_sources, runs_of, some_runs
from debias.errors import UserError
from debias.rawfiles import read_text
from debias.tracking.results import listing
from debias.tracking.results.gather import Filter
from debias.tracking.results.published import beside, find_papers, papers
from debias.tracking.results.summary import tables_of, unfinished
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import SELECTIONS

COLUMNS = "run,method,dataset,skew,seed,status"


def add_figure(parser: argparse.ArgumentParser) -> None:
    """The option that names the figure of a table of means."""
    parser.add_argument(
        "--figure", default="unbiased", metavar="NAME",
        help="unbiased, average, aligned, conflicting or worst (group); reweighted (groups weighted as in training), "
        "balanced (mean over classes), worst_class; for two classes also auroc and average_precision. NAME@TEST: on a "
        "further test set; READ-OUT/NAME: of another read-out (default: unbiased, or average without bias labels)",
    )  # fmt: skip


def means(options: argparse.Namespace) -> list[Table]:
    """Means over seeds, and what is in no mean."""
    runs = some_runs(options)
    rest = None if options.records else unfinished(runs)
    return [*tables_of(runs, options.figure, beside), *([rest] if rest else [])]


def _add_table(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    add_figure(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    parser.add_argument(
        "--columns", default=COLUMNS, metavar="A,B,…",
        help=f"settings and figures, see below (default: {COLUMNS})",
    )  # fmt: skip


def _list(options: argparse.Namespace) -> list[Table]:
    return [listing.run_table(runs_of(options), options.columns.split(","))]


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="METHOD|FILTER", help="methods, and filters that choose runs")
    add_places(parser)


def _compare(options: argparse.Namespace) -> list[Table]:
    methods = [word for word in options.words if not any(sign in word for sign in SIGNS)]
    options.filters = [word for word in options.words if word not in methods]
    if not methods or len(set(methods)) < len(methods):
        raise UserError("compare: name the methods, each once, as in: python results.py compare erm denetdm")
    newest = listing.newest_of_each(runs_of(options), methods)
    table = listing.comparison(newest, listing.comparison_title(newest[0]))
    places = [f"{run.method}: {run.folder}" for run in newest]
    return [Table(table.title, table.columns, table.rows, table.text_columns, places)]


def _add_paper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="NAME|FILTER", help="a table (below), and filters that choose runs")
    add_places(parser)
    parser.add_argument(
        "--selection", choices=SELECTIONS, metavar="RULE",
        help=f"how epochs of ours are selected: {', '.join(SELECTIONS)} (default: the paper's rule, or last)",
    )  # fmt: skip
    parser.add_argument(
        "--cells", action="store_true", help="a row for each published figure, with the difference and the verdict"
    )
    parser.add_argument(
        "--reasons", type=Path, metavar="CSV",
        help="with --cells: why figures differ, a file with the columns table, row, column, why",
    )  # fmt: skip


def _paper(options: argparse.Namespace) -> list[Table]:
    names = [word for word in options.words if not any(sign in word for sign in SIGNS)]
    options.filters = [word for word in options.words if word not in names]
    if not names:
        rows = [[key, paper.title, paper.selection or NOTHING] for key, paper in papers().items()]
        return [Table("Published tables", ["name", "table", "selection"], rows, ["name", "table", "selection"])]
    found = [paper for name in names for paper in find_papers(name)]
    if options.reasons and not options.cells:
        raise UserError("--reasons is for --cells, whose rows have room for them")
    # Imports torch, as the commands name our methods.
    from debias.tracking.results.cells import cells_table, read_reasons
    from debias.tracking.results.papers import paper_table

    runs = runs_of(options)
    if options.cells:
        reasons = read_reasons(options.reasons) if options.reasons else []
        return [cells_table(paper, runs, options.selection, reasons) for paper in found]
    # A filter on methods chooses rows as well: the others would all be empty.
    chosen = [one for one in map(Filter.parse, options.filters) if (one.name, one.sign) == ("method", "=")]
    methods = [value for one in chosen for value in one.values] if chosen else None
    inline = options.format == "csv"
    return [paper_table(paper, runs, options.selection, inline=inline, methods=methods) for paper in found]


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="each is one table")


def _show(options: argparse.Namespace) -> list[Table]:
    return [_read_table(path) for path in options.files]


def _read_table(path: Path) -> Table:
    try:
        head, *rows = [row for row in csv.reader(io.StringIO(read_text(path, str(path)))) if row]
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: no table can be read from it ({error})") from error
    if any(len(row) != len(head) for row in rows):
        raise UserError(f"{path}: every line must have {len(head)} values, as its head has")
    numbers = {name for place, name in enumerate(head) if all(row[place][:1].isdigit() for row in rows)}
    return Table(path.stem, head, rows, text_columns=[name for name in head if name not in numbers])


COMMANDS = (
    Command(
        "table", "[FILTER…]", "mean ± std over seeds, a row per method, data set and skew; published figures beside",
        _add_table, tables=means, more=FILTERS,
    ),
    Command(
        "list", "[FILTER…]", "run by run, with columns of choice",
        _add_list, tables=_list,
        more="A column is a setting or a figure, and its heading after a colon; of several joined by | the first that "
        "a run\nhas is shown:\n  --columns run,seed,distill.teacher:teacher,\"target/unbiased/last|model/unbiased/last:"
        f"unbiased\"\n\n{FILTERS}",
    ),
    Command(
        "compare", "METHOD METHOD… [FILTER…]", "the newest runs of methods on equal data and seed, and the gain",
        _add_compare, tables=_compare, more=FILTERS,
    ),
    Command(
        "paper", "[NAME] [FILTER…]", "a paper's table with ours beside it, and the commands that fill it",
        _add_paper, tables=_paper,
        more="NAME is a table, the beginning of several (denetdm-table1), or all; without one all are listed.\n\n"
        f"{FILTERS}",
    ),
    Command("show", "FILE.csv…", "any CSV file as a table", _add_show, tables=_show),
)  # fmt: skip
