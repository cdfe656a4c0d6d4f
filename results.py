"""Tables of results, beside the published figures.

python results.py [FILTER...]                       mean ± std over seeds: a row per method, data set and skew
python results.py --paper denetdm-table1            a paper's table with ours next to theirs; `--paper all`
python results.py list [FILTER...] --columns A,B    run by run: settings, or figures such as target/unbiased/last
python results.py compare METHOD METHOD [FILTER...] the newest runs of methods side by side, and the gain
python results.py export FILE.csv [FILTER...]       add the records of runs to a CSV file that can be committed
python results.py show FILE.csv                     any CSV file as a table
python results.py report --out report.html [FILTER...]   one page with curves, matrices, images, settings
python results.py search [NAME] [--top 3]           searches of settings: all of them, or the best trials of one
python results.py docs [FILE...] [--check]          make the marked tables of documents again from their records

A FILTER is a setting with a value: method=erm,lff  skew<=0.02  distill.teacher=oracle  status!=FAILED
"""

import waiting  # noqa: F401 - before torch

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from errors import UserError
from redaction import redact
from settings import nearest
from tracking.folders import RunRecord
from tracking.mongo.address import from_environment, parse_address
from tracking.results import listing
from tracking.results.docs import rewritten
from tracking.results.gather import Filter, choose, gather
from tracking.results.published import beside, find_papers
from tracking.results.records import write_records
from tracking.results.summary import tables_of, unfinished
from tracking.results.tables import FORMATS, Table, write

COMMANDS = ("table", "list", "compare", "export", "report", "show", "search", "docs")
DOCUMENTS = ("docs/results.md",)


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status (0 done, 1 a document is out of date, 2 a user error)."""
    try:
        return _run(arguments)
    except UserError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    if options.command == "docs":
        return _docs([Path(word) for word in options.words or DOCUMENTS], options.check)
    if options.command == "export":
        if not options.words:
            raise UserError(
                "export: name the CSV file to add to, as in: python results.py export docs/records/mine.csv"
            )
        path = Path(options.words.pop(0))
        records = [record for record in _records(options) if record.finished or options.partial]
        if not records:
            raise UserError("export: no finished run passes the filters")
        total = write_records(records, path)
        print(f"{len(records)} runs written to {path}, which has {total} now")
        return 0
    if options.command == "report":
        return _report(options)
    print(_tables(options), end="")
    return 0


def _tables(options: argparse.Namespace) -> str:
    """What a command prints."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and options.format == "terminal" else None
    tables = {"table": _means, "list": _list, "compare": _compare, "show": _show, "search": _search}[options.command](
        options
    )
    return write(tables, options.format, width=width, titles=not options.no_title)


def _means(options: argparse.Namespace) -> list[Table]:
    records = _records(options)
    if options.paper:
        from tracking.results.papers import paper_table  # imports torch, as the commands name our methods

        inline = options.format == "csv"
        # A filter on methods chooses rows as well: the others would all be empty.
        chosen = [one for one in map(Filter.parse, options.words) if (one.name, one.sign) == ("method", "=")]
        methods = [value for one in chosen for value in one.values] if chosen else None
        return [
            paper_table(paper, records, options.selection, inline=inline, methods=methods)
            for paper in find_papers(options.paper)
        ]
    if not records:
        raise UserError(f"no runs in {_places(options)}" + (" pass the filters" if options.words else ""))
    rest = None if options.records else unfinished(records)
    return [*tables_of(records, options.figure, beside), *([rest] if rest else [])]


def _list(options: argparse.Namespace) -> list[Table]:
    names = (
        ["run", "method", "dataset", "skew", "seed", "status"] if not options.columns else options.columns.split(",")
    )
    return [listing.run_table(_records(options), names)]


def _compare(options: argparse.Namespace) -> list[Table]:
    methods = [word for word in options.words if not any(sign in word for sign in "=<>")]
    options.words = [word for word in options.words if word not in methods]
    if not methods:
        raise UserError("compare: name the methods, as in: python results.py compare erm denetdm")
    records = listing.newest_of_each(_records(options), methods)
    table = listing.comparison(records, listing.comparison_title(records[0]))
    places = [f"{record.method}: {record.folder}" for record in records]
    return [Table(table.title, table.columns, table.rows, table.text_columns, places)]


def _show(options: argparse.Namespace) -> list[Table]:
    tables = []
    for word in options.words:
        try:
            with Path(word).open(newline="", encoding="utf-8") as handle:
                head, *rows = [row for row in csv.reader(handle) if row]
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            raise UserError(f"{word}: no table can be read from it ({error})") from error
        if any(len(row) != len(head) for row in rows):
            raise UserError(f"{word}: every line must have {len(head)} values, as its head has")
        numbers = {name for place, name in enumerate(head) if all(row[place][:1].isdigit() for row in rows)}
        tables.append(Table(Path(word).stem, head, rows, text_columns=[name for name in head if name not in numbers]))
    return tables


def _search(options: argparse.Namespace) -> list[Table]:
    from sweeps.searching.tables import all_tables  # loads Optuna

    if len(options.words) > 1:
        raise UserError(f"search: one search at a time; given are {', '.join(options.words)}")
    name = options.words[0].removesuffix(".yaml") if options.words else None
    return all_tables(options.store or [Path("runs")], name, options.storage, options.top)


def _report(options: argparse.Namespace) -> int:
    from tracking.report.page import write_page  # draws, and loads what drawing needs

    records = _records(options)
    if not records:
        raise UserError(f"no runs in {_places(options)}" + (" pass the filters" if options.words else ""))
    rest = unfinished(records)
    tables = [*tables_of(records, options.figure, beside), *([rest] if rest else [])]
    try:
        size = write_page(options.out, records, tables, options.title, options.runs)
    except OSError as error:
        raise UserError(f"--out {options.out}: cannot be written ({error.strerror})") from error
    print(f"{options.out}: {len(records)} runs, {size / 1e6:.1f} MB")
    return 0


def _docs(documents: Sequence[Path], check: bool) -> int:
    stale = []
    for document in documents:
        text = rewritten(document, lambda words: _tables(_parse([*words, "--format", "markdown", "--no-title"])))
        if text != document.read_text(encoding="utf-8"):
            stale.append(document)
            if not check:
                document.write_text(text, encoding="utf-8")
    for document in stale:
        print(f"{document}: " + ("out of date; run python results.py docs" if check else "rewritten"))
    return 1 if check and stale else 0


def _records(options: argparse.Namespace) -> list[RunRecord]:
    filters = [Filter.parse(word) for word in options.words]
    stores = options.store or ([] if options.records else [Path("runs")])
    return choose(gather(stores, options.records, _database(options)), filters)


def _database(options: argparse.Namespace) -> list[RunRecord]:
    """The runs of the database that is named; when only a variable names it, none if it does not answer."""
    address = parse_address(options.mongo, "--mongo") if options.mongo else None
    if address is None and not options.records:
        address = from_environment()
    if address is None:
        return []
    from tracking.mongo.sync import read_database  # loads the driver

    try:
        return list(read_database(address))
    except UserError as error:
        if options.mongo:
            raise
        print(f"{error}; these are the runs in files", file=sys.stderr)
        return []


def _places(options: argparse.Namespace) -> str:
    return ", ".join(map(str, [*options.records, *(options.store or ([] if options.records else ["runs"]))]))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python results.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="a command of those above, filters, methods, files")
    parser.add_argument("--store", type=Path, action="append", help="a folder of runs; may be repeated (default: runs)")
    parser.add_argument(
        "--records", type=Path, action="append", default=[], help="a CSV file of records, instead of runs"
    )
    parser.add_argument("--mongo", metavar="URL", help="a MongoDB with further runs (default: the variable MONGO_URL)")
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--figure", default="unbiased", help="unbiased, average, aligned, conflicting, worst")
    parser.add_argument("--selection", help="of ours in a paper's table: last, mean, valid, oracle")
    parser.add_argument("--paper", metavar="NAME", help="a published table, or all that begin with a name")
    parser.add_argument("--columns", help="of list: names; a heading may follow a colon")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="of report: the file")
    parser.add_argument("--runs", type=int, default=12, help="of report: how many runs are shown with pictures")
    parser.add_argument("--title", default="Debiasing results", help="of report: its head")
    parser.add_argument("--top", type=int, default=3, help="of search: average the N best trials")
    parser.add_argument("--storage", metavar="URL", help="of search: its database, where the address has a password")
    parser.add_argument("--partial", action="store_true", help="export runs that are not finished too")
    parser.add_argument("--check", action="store_true", help="of docs: change nothing, and say what is out of date")
    parser.add_argument("--no-title", action="store_true", help="tables without their titles")
    options = parser.parse_intermixed_args(list(arguments))
    options.command = "table"
    if options.words and not any(sign in options.words[0] for sign in "=<>"):
        options.command = options.words.pop(0)
        if options.command not in COMMANDS:
            near = nearest(options.command, COMMANDS)
            raise UserError(f"no command of results.py is called {options.command!r}{near} (--help lists them)")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
