"""The command of results.py that shows searches of settings."""

import argparse
from pathlib import Path

from debias.commands.results.command import Command
from debias.errors import UserError
from debias.tracking.results.tables import Table


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="a search; without one all are listed")
    parser.add_argument(
        "--store", type=Path, action="append", metavar="DIR", help="a folder of runs; may be repeated (default: runs)"
    )
    parser.add_argument("--top", type=int, default=3, metavar="N", help="average the N best trials (default: 3)")
    parser.add_argument("--storage", metavar="URL", help="its database, where the address has a password")


def _search(options: argparse.Namespace) -> list[Table]:
    from debias.sweeps.searching.tables import all_tables  # loads Optuna

    if len(options.names) > 1:
        raise UserError(f"search: one search at a time; given are {', '.join(options.names)}")
    name = options.names[0].removesuffix(".yaml") if options.names else None
    return all_tables(options.store or [Path("runs")], name, options.storage, options.top)


SEARCH = Command(
    "search", "[NAME]", "searches of settings: all of them, or the best trials of one", _add, tables=_search
)
