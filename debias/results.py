"""Tables of results beside published figures, reports, records of runs, and what a store holds.

python results.py                            mean ± std over seeds of all runs in runs/
python results.py compare erm denetdm        the newest runs of two methods, and the gain
python results.py --help                     all commands; COMMAND --help describes one
"""

import debias.waiting  # noqa: F401 - before torch

import sys
from collections.abc import Sequence
from typing import NoReturn

from debias.commands.results import files, storage, tables
from debias.commands.results.command import Program
from debias.endings import status_of
from debias.sweeps.searching.listed import SEARCH

ABOUT = "Tables of results beside published figures, reports, records of runs, and what a store holds."


def _markdown(words: Sequence[str]) -> str:
    return PROGRAM.markdown(words)


PROGRAM = Program(
    "python results.py",
    ABOUT,
    (*tables.COMMANDS, SEARCH, *files.COMMANDS, files.docs_command(_markdown), *storage.COMMANDS),
)


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status (0 done, 1 a document is out of date, 2 a user error)."""
    return status_of(lambda: PROGRAM.main(arguments))


def run() -> NoReturn:
    """The command line of this process."""
    sys.exit(main(sys.argv[1:]))
