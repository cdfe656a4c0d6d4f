"""Commands that write files: records of runs, a report, and tables in documents."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from debias.commands.results.command import Command
from debias.commands.results.sources import FILTERS, add_sources, runs_of, some_runs
from debias.commands.results.tables import add_figure
from debias.errors import UserError
from debias.rawfiles import read_text, replaced_whole
from debias.tracking.results.docs import rewritten
from debias.tracking.results.published import beside
from debias.tracking.results.records import write_records
from debias.tracking.results.summary import tables_of, unfinished

DOCUMENTS = ("docs/results.md", "docs/reproduction.md")


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.csv", help="made when it is not there")
    add_sources(parser)
    parser.add_argument("--partial", action="store_true", help="runs that are not finished too")


def _record(options: argparse.Namespace) -> int:
    if options.file is None or any(sign in str(options.file) for sign in "=<>"):
        raise UserError("record: name the CSV file to add to, as in: python results.py record docs/records/mine.csv")
    chosen = [run for run in runs_of(options) if run.finished or options.partial]
    if not chosen:
        raise UserError("record: no finished run passes the filters")
    total = write_records(chosen, options.file)
    print(f"{len(chosen)} runs written to {options.file}, which has {total} now")
    return 0


def _add_report(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    add_figure(parser)
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    parser.add_argument(
        "--newest", type=int, default=12, metavar="N", help="runs that are shown with curves and pictures (default: 12)"
    )
    parser.add_argument("--title", default="Debiasing results", metavar="TEXT", help="its heading")


def _report(options: argparse.Namespace) -> int:
    from debias.tracking.report.document import write_report

    runs = some_runs(options)
    rest = unfinished(runs)
    tables = [*tables_of(runs, options.figure, beside), *([rest] if rest else [])]
    try:
        size = write_report(options.out, runs, tables, options.title, options.newest)
    except OSError as error:
        raise UserError(f"--out {options.out}: cannot be written ({error.strerror})") from error
    print(f"{options.out}: {len(runs)} runs, {size / 1e6:.1f} MB")
    return 0


def _add_docs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE.md",
        help=f"Markdown documents (default: {', '.join(DOCUMENTS)})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a table is out of date")


def docs_command(markdown: Callable[[Sequence[str]], str]) -> Command:
    """The command docs.

    markdown : gives the tables that a command line prints, as Markdown
    """

    def docs(options: argparse.Namespace) -> int:
        stale = []
        for document in options.files or map(Path, DOCUMENTS):
            text = rewritten(document, markdown)
            if text != read_text(document, f"{document}:"):
                stale.append(document)
                if not options.check:
                    with replaced_whole(document) as partial:
                        partial.write_text(text, encoding="utf-8")
        said = "out of date; run python results.py docs" if options.check else "rewritten"
        for document in stale:
            print(f"{document}: {said}")
        return 1 if options.check and stale else 0

    return Command(
        "docs", "[FILE.md…]", "rewrite the marked tables of documents from their records", _add_docs, docs,
        more="A table stands between <!-- python results.py … --> and <!-- end -->; the command is any that prints "
        "tables.",
    )  # fmt: skip


COMMANDS = (
    Command(
        "record", "FILE.csv [FILTER…]", "add runs to a CSV file that can be committed, and read with --records",
        _add_record, _record, more=FILTERS,
    ),
    Command(
        "report", "[FILTER…]", "one HTML page with tables, curves, matrices, images and settings",
        _add_report, _report, more=FILTERS,
    ),
)  # fmt: skip
