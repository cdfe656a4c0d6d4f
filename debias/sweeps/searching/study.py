"""A search as Optuna keeps it: where trials are, how they are drawn and pruned. Imports nothing heavy."""

import contextlib
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.rawfiles import check_regular
from debias.redaction import redact

INSTALL = "a search needs Optuna: pip install 'optuna>=5,<6'"
SAMPLERS = ("tpe", "random", "cmaes", "grid")
PRUNERS = ("none", "median", "halving", "hyperband")
# Trials that are finished before `median` gives one up.
FIRST_TRIALS = 5
# A storage that is not a journal has a file of this ending in the store, with its address.
ADDRESS = ".storage"
# Special characters of a password are written with %: what shows an address finds its end by them.
_URL = re.compile(r"[a-z][\w+.-]*://[^\s'\"<>]*", re.IGNORECASE)
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?)://(?:/([^?]*))?(.*)", re.IGNORECASE)


def load_optuna() -> Any:
    """The package, which says nothing by itself.

    Raises
    ------
    UserError
        It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(INSTALL) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def journal_of(store: Path, name: str) -> Path:
    """Where a search is kept that names no other storage."""
    return (store / "sweeps" / f"{name}.journal").absolute()


def checked_address(given: Any) -> str:
    """The address of a database, that of an SQLite file with its whole path: other processes work elsewhere."""
    if not isinstance(given, str) or not _URL.fullmatch(given):
        raise UserError(
            "search: storage: the address of a database, as in sqlite:///searches.db (% for special characters)"
        )
    match = _SQLITE.fullmatch(given)
    if match is None:
        return given
    dialect, path, options = match.groups()
    if path in (None, "", ":memory:"):
        raise UserError(f"search: storage={given}: it is lost with this process; name a file, as in sqlite:///file.db")
    return f"{dialect}:///{Path(path).absolute()}{options}"


def open_study(place: str, name: str) -> Any:
    """The study of a search at the address of a database, or in a journal file; made when it is not there.

    Raises
    ------
    UserError
        It cannot be used; secrets of the address are not repeated.
    """
    optuna = load_optuna()
    with _usable(place):
        if not is_address(place):
            _cut_torn_line(Path(place))
        return optuna.create_study(
            storage=_storage(place), study_name=_study_name(place, name), direction="maximize", load_if_exists=True
        )


def load_study(place: str, name: str, pruner: Sequence[Any] = ("none",)) -> Any:
    """The study of a search that is there.

    Raises
    ------
    UserError
        It is not there, or cannot be read.
    """
    optuna = load_optuna()
    match = _SQLITE.fullmatch(place)
    file = Path(match[2] if match else place)
    # Opening would make it.
    if (match or not is_address(place)) and not file.exists():
        raise UserError(f"{file}: there is no such file; the search {name!r} has not begun")
    with _usable(place):
        storage = _storage(place)
        if _study_name(place, name) not in optuna.get_all_study_names(storage):
            raise UserError(f"{redact(place)}: there is no search {name!r}")
        return optuna.load_study(study_name=_study_name(place, name), storage=storage, pruner=make_pruner(*pruner))


def is_address(place: str) -> bool:
    """Whether a storage is the address of a database, not a journal file."""
    return _URL.fullmatch(place) is not None


def _storage(place: str) -> Any:
    storages = load_optuna().storages
    if not is_address(place):
        if Path(place).exists():
            check_regular(Path(place))
        return storages.JournalStorage(storages.journal.JournalFileBackend(place))
    # Several processes write: one waits for another.
    waiting = {"connect_args": {"timeout": 60}} if place.lower().startswith("sqlite") else {}
    return storages.RDBStorage(place, engine_kwargs=waiting)


def _study_name(place: str, name: str) -> str:
    """A journal has one search; in a database it goes by its name."""
    return name if is_address(place) else "sweep"


@contextlib.contextmanager
def _usable(place: str) -> Iterator[None]:
    """Whatever is raised inside is the storage's fault: its file is damaged, or a database's driver raises its own."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # It may have the address with the password in it.
        why = " ".join(str(error).replace(place, redact(place)).split()).split(" (Background on")[0]
        what = "cannot be used" if is_address(place) else "no search can be read from it"
        raise UserError(f"{redact(place)}: {what} ({type(error).__name__}: {redact(why)[:300]})") from None


def _cut_torn_line(journal: Path) -> None:
    """Drop a line that a machine which was lost wrote in part: what is appended to it would spoil the file."""
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


def make_sampler(name: str, seed: int, parallel: bool) -> Any:
    """What draws the next trial; `parallel`: while others are running, whose figures it then takes for bad ones."""
    made = load_optuna().samplers
    if name == "tpe":
        return made.TPESampler(seed=seed, constant_liar=parallel)
    if name == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError as error:
            raise UserError("search: sampler=cmaes needs the package cmaes: pip install cmaes") from error
        return made.CmaEsSampler(seed=seed)
    # The cells of a grid are given, not drawn.
    return made.RandomSampler(seed=seed)


def fixed_sampler(params: Mapping[str, Any]) -> Any:
    """What draws these values: a queue of trials would outlive the process, and Optuna's grid draws a cell twice."""
    optuna = load_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(dict(params), optuna.samplers.RandomSampler())


def make_pruner(kind: str, warm: int = 1, rounds: int = 1) -> Any:
    """What gives trials up: `warm` epochs of at most `rounds` are always trained."""
    made = load_optuna().pruners
    if kind == "median":
        return made.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=warm)
    if kind == "halving":
        return made.SuccessiveHalvingPruner(min_resource=warm)
    if kind == "hyperband":
        return made.HyperbandPruner(min_resource=warm, max_resource=max(warm, rounds))
    return made.NopPruner()


def is_oracle(objective: str) -> bool:
    """Whether an objective is a figure of the test set: what is held out comes first in the name of one that is not."""
    return not objective.startswith("valid")


def note(study: Any, **attributes: Any) -> None:
    """Keep what is said about a study, where it is new."""
    for name, value in attributes.items():
        if study.user_attrs.get(name) != value:
            study.set_user_attr(name, value)


def words_of(params: Mapping[str, Any]) -> list[str]:
    """Settings as words after `with`."""
    return [f"{path}={value!r}" for path, value in params.items()]


def short(value: Any) -> str:
    """A value of a setting as tables have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mean_and_std(values: Sequence[float]) -> str:
    """`mean ± std` of all there are (not of a sample), as EnD reports the best of a search."""
    mean = sum(values) / len(values)
    return f"{mean:.2f} ± {math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)):.2f}"
