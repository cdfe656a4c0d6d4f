"""Options of Sacred's own on the command line, checked before it reads them: it answers bad ones by a traceback."""

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docopt import docopt
from sacred import Experiment

from debias.errors import UserError

_LEVELS = ("DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL", "NOTSET")
# Observers of Sacred's, and the packages that they need.
_PACKAGES = {"--s3": ("boto3",), "--tiny_db": ("tinydb", "hashfs"), "--sql": ("sqlalchemy",)}


def check_options(experiment: Experiment, words: Sequence[str]) -> None:
    """Refuse options with values that Sacred cannot use.

    Raises
    ------
    UserError
        Naming the option.
    DocoptExit
        An option without its value, or one that is not known.
    """
    if not any(word.startswith("-") for word in words):
        return
    _, _, usage = experiment.get_usage()
    given: Mapping[str, Any] = docopt(usage, [str(word) for word in words], default_help=False)
    level, beat, priority = given.get("--loglevel"), given.get("--beat-interval"), given.get("--priority")
    if level is not None and not level.isdecimal() and level not in _LEVELS:
        raise UserError(f"--loglevel {level}: one of {', '.join(_LEVELS)}, or a whole number")
    for name, text, least in (("--beat-interval", beat, 0.0), ("--priority", priority, -math.inf)):
        if text is not None and not _is_number(text, least):
            raise UserError(f"{name} {text}: a number is wanted")
    if given.get("--capture") not in (None, "no", "sys", "fd"):
        raise UserError(f"--capture {given['--capture']}: one of no, sys, fd")
    if given.get("--queue"):
        raise UserError("--queue: nothing here works through queued runs; `python sweep.py` runs many")
    if given.get("--enforce_clean"):
        raise UserError("--enforce_clean: the state of version control is not recorded; the sources are, with each run")
    for name, packages in _PACKAGES.items():
        if given.get(name) and (missing := [package for package in packages if find_spec(package) is None]):
            raise UserError(f"{name}: the package {', '.join(missing)} is not installed")
    _check_id(given, words)
    folder = given.get("--file_storage")
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--file_storage {folder}: cannot be written to ({error.strerror})") from error


def _check_id(given: Mapping[str, Any], words: Sequence[str]) -> None:
    number = given.get("--id")
    if number is None:
        return
    if not str(number).isascii() or not str(number).isalnum():
        raise UserError(f"--id {number}: letters and digits name a run's folder")
    store = next((word.partition("=")[2] for word in reversed(words) if word.startswith("store=")), "runs")
    if (Path(store).expanduser() / str(number)).exists():
        raise UserError(f"--id {number}: there is such a run in {store}; leave --id out for the next number")


def _is_number(text: str, least: float) -> bool:
    try:
        return least <= float(text) < math.inf
    except ValueError:
        return False
