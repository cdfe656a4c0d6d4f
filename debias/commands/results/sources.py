"""The runs a command is about: where they are kept, and the filters that choose among them."""

import argparse
import sys
from pathlib import Path

from debias.errors import UserError
from debias.harmless import plain
from debias.tracking.folders import RunRecord
from debias.tracking.mongo.address import from_environment, parse_address
from debias.tracking.results.gather import Filter, choose, gather

# Folders that are named.
_SHOWN = 5

FILTERS = """A FILTER is NAME, a sign and a value, where NAME is a setting, or status, command, run, started or device:
  method=erm,lff   "skew<=0.02"   distill.teacher=oracle   status!=FAILED
"""


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Filters, and the options that say where runs are kept."""
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="only runs that fulfil it; all of several")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where runs are kept."""
    parser.add_argument(
        "--store", type=Path, action="append", metavar="DIR", help="a folder of runs; may be repeated (default: runs)"
    )
    parser.add_argument(
        "--records", type=Path, action="append", default=[], metavar="CSV",
        help="a CSV file written by `record`, or a folder of such, instead of the default store; may be repeated",
    )  # fmt: skip
    parser.add_argument("--mongo", metavar="URL", help="a MongoDB with further runs (default: the variable MONGO_URL)")


def runs_of(options: argparse.Namespace) -> list[RunRecord]:
    """The runs that fulfil the filters, oldest first.

    Raises
    ------
    UserError
        A filter or a place that cannot be read.
    """
    conditions = [Filter.parse(word) for word in options.filters]
    stores = options.store or ([] if options.records else [Path("runs")])
    damaged: list[Path] = []
    found = gather(stores, options.records, _database(options), damaged)
    if damaged:
        more = f" and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        named = plain(", ".join(map(str, damaged[:_SHOWN])))
        print(f"left out, as their files are damaged: {named}{more}", file=sys.stderr)
    return choose(found, conditions)


def some_runs(options: argparse.Namespace) -> list[RunRecord]:
    """As `runs_of`, where there must be at least one."""
    runs = runs_of(options)
    if not runs:
        places = [*options.records, *(options.store or ([] if options.records else ["runs"]))]
        raise UserError(f"no runs in {', '.join(map(str, places))}" + (" pass the filters" if options.filters else ""))
    return runs


def _database(options: argparse.Namespace) -> list[RunRecord]:
    """The runs of the database that is named; when only a variable names it, none if it does not answer."""
    address = parse_address(options.mongo, "--mongo") if options.mongo else None
    if address is None and not options.records:
        address = from_environment()
    if address is None:
        return []
    from debias.tracking.mongo.sync import read_database  # loads the driver

    try:
        return list(read_database(address))
    except UserError as error:
        if options.mongo:
            raise
        print(f"{error}; these are the runs in files", file=sys.stderr)
        return []
