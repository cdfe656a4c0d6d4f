"""Subcommands of a program: each with its own options and help, found by the first word of a command line."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from debias.errors import UserError
from debias.settings import nearest
from debias.tracking.results.tables import FORMATS, Table, write

Arguments = Callable[[argparse.ArgumentParser], None]
SIGNS = "=<>"


@dataclass(frozen=True)
class Command:
    """A subcommand.

    name, takes, summary : as the list of commands shows them; `takes` names the positional arguments
    arguments : adds the options to a parser
    run : does the work and gives the exit status
    tables : for a command that prints tables, gives them; it has the options --format and --no-title then, and no `run`
    more : further paragraphs and examples of its help
    """

    name: str
    takes: str
    summary: str
    arguments: Arguments
    run: Callable[[argparse.Namespace], int] | None = None
    tables: Callable[[argparse.Namespace], list[Table]] | None = None
    more: str = ""


class _Parser(argparse.ArgumentParser):
    """Errors are one line, as all others of the program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} ({self.prog} --help lists what there is)")


class Program:
    """Commands under one name; a command line without one is of the first.

    Parameters
    ----------
    name
        As it is called, such as `python results.py`.
    about
        The first paragraph of the help.
    commands
        In the order of the help.
    """

    def __init__(self, name: str, about: str, commands: Sequence[Command]) -> None:
        self.name, self.about = name, about
        self.commands = {command.name: command for command in commands}
        self._default = commands[0]

    def main(self, arguments: Sequence[str]) -> int:
        """Run a command line and give its exit status.

        Raises
        ------
        UserError
            An unknown command or option, and whatever the command refuses.
        """
        if arguments[:1] in (["-h"], ["--help"], ["help"]):
            print(self.help(), end="")
            return 0
        command, options = self.parse(arguments)
        if command.run is not None:
            return command.run(options)
        assert command.tables is not None
        in_terminal = sys.stdout.isatty() and options.format == "terminal"
        width = shutil.get_terminal_size().columns if in_terminal else None
        print(write(command.tables(options), options.format, width=width, titles=not options.no_title), end="")
        return 0

    def markdown(self, arguments: Sequence[str]) -> str:
        """What a command line that prints tables prints in a document.

        Raises
        ------
        UserError
            The command prints no tables.
        """
        command, options = self.parse([*arguments, "--format", "markdown", "--no-title"])
        assert command.tables is not None  # the others have no option --format
        return write(command.tables(options), "markdown", titles=False)

    def parse(self, arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
        """The command of a command line, and its options."""
        first, *rest = arguments or [""]
        if first in self.commands:
            command = self.commands[first]
            return command, self._parser(command).parse_intermixed_args(rest)
        if first and not first.startswith("-") and not any(sign in first for sign in SIGNS):
            raise UserError(
                f"no command of {self.name.split()[-1]} is called {first!r}{nearest(first, self.commands)} "
                f"({self.name} --help lists them)"
            )
        options = self._parser(self._default).parse_intermixed_args(list(arguments))
        for word in options.filters:
            if word in self.commands:
                raise UserError(f"the command comes first, as in: {self.name} {word} {first} …")
        return self._default, options

    def help(self) -> str:
        """All commands, a line each."""
        calls = {f"{command.name} {command.takes}".strip(): command.summary for command in self.commands.values()}
        width = max(map(len, calls))
        lines = [
            f"usage: {self.name} [COMMAND] …", "", self.about.strip(), "",
            *(f"  {call:{width}}  {summary}" for call, summary in calls.items()), "",
            f"{self.name} COMMAND --help describes one of them and its options; without a command it is "
            f"`{self._default.name}`.",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _parser(self, command: Command) -> argparse.ArgumentParser:
        parser = _Parser(
            prog=f"{self.name} {command.name}",
            description=command.summary[:1].upper() + command.summary[1:] + ".",
            epilog=command.more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.arguments(parser)
        if command.tables is not None:
            parser.add_argument(
                "--format",
                choices=FORMATS,
                default="terminal",
                metavar="NAME",
                help=f"{', '.join(FORMATS)} (default: terminal)",
            )
            parser.add_argument("--no-title", action="store_true", help="tables without their titles")
        return parser
