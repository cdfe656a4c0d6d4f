"""What a sweep is made of: a YAML file or words of a command line become trials, checked before any of them starts."""

import ast
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from sacred.arg_parser import get_config_updates

from debias.catalogue import RUN_SETTINGS, decides, known_settings
from debias.config import NAMED_CONFIGS, DebiasExperiment, resolve
from debias.digests import digest
from debias.errors import UserError
from debias.rawfiles import read_regular
from debias.settings import nearest
from debias.stages.recipes import stages_of
from debias.sweeps.alike import alike_of

KEYS = ("with", "grid", "search")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class Trial:
    """A run to be made: the words after `with`, what tells it from the sweep's others, `run_key` of its settings.

    seed, replicas : its own seed, and how many it may be trained simultaneously with
    apart : names its settings but for the seed, where there may be several
    alike : names its settings but for those in which trials that are trained together may differ; empty where nothing
        of it can be
    device : as its setting says
    """

    words: tuple[str, ...]
    label: str
    key: str
    seed: int = 0
    replicas: int = 1
    apart: str = ""
    alike: str = ""
    device: str = "auto"

    def with_seeds(self, count: int) -> "Trial":
        """The trial as one run of a command that trains `count` seeds simultaneously, its own and those after it."""
        label = self.label if count == 1 else f"{self.label} and {count - 1} more seeds"
        return replace(self, words=(*self.words, f"replicas={count}"), label=label)


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep, each once, in the order of the grid: the last name varies fastest.

    record_file : CSV file of runs that count as finished too, and to which every finished run is added
    together : how many trials are trained simultaneously, at most
    """

    name: str
    trials: tuple[Trial, ...]
    store: Path
    record_file: Path | None = None
    together: int = 1


def read_plan(experiment: DebiasExperiment, path: Path, words: Sequence[str] = ()) -> Plan:
    """The plan of a YAML file of this form; `words` are settings that come after its own.

        with: [colored_mnist, severity4]     named configs and settings of all trials, as on the command line
        grid:                                every combination of these is a trial
          method: [erm, denetdm]
          seed: 1..5                         a range of whole numbers, or a list
          skew: [skewed1, skewed3]           named configs by their kind, as `help` lists them
          protocol: [null, reference]        with and without one

    or, instead of `grid`, with a section `search` (`sweeps.searching.search`).

    Raises
    ------
    UserError
        What is wrong with the file, or with a trial's settings.
    """
    document = read_document(path)
    common, grid = common_words(path, document), document.get("grid", {})
    if "grid" in document and not grid:
        raise UserError(f"{path}: the grid is empty; name a setting with values, or leave `grid` out for one trial")
    if not isinstance(grid, Mapping):
        raise UserError(f"{path}: `grid` has a list of values for each setting")
    values = {str(name): _listed(str(path), str(name), given) for name, given in grid.items()}
    return _plan(experiment, path.stem, common, values, words)


def read_document(path: Path) -> Mapping[str, Any]:
    """A sweep's YAML file with keys that are known."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no sweep can be read from it ({error})") from error
    try:
        document = yaml.safe_load(text)
    except RecursionError as error:
        raise UserError(f"{path}: not YAML of a sane depth") from error
    # A date that is none is a ValueError of Python's.
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, Mapping):
        raise UserError(f"{path}: a sweep has the keys {', '.join(KEYS)}")
    for key in document:
        if key not in KEYS:
            raise UserError(f"{path}: nothing is known of {key!r}{nearest(str(key), KEYS)}")
    if "grid" in document and "search" in document:
        raise UserError(f"{path}: a sweep has a grid or a search, not both")
    return document


def common_words(path: Path, document: Mapping[str, Any]) -> list[str]:
    """The words of all trials."""
    common = document.get("with") or []
    if isinstance(common, str):
        common = common.split()
    if not isinstance(common, list):
        raise UserError(f"{path}: `with` is a list of words")
    return [str(word) for word in common]


def words_plan(experiment: DebiasExperiment, words: Sequence[str]) -> Plan:
    """The plan of a command line, where several values make the grid: method=erm,denetdm seed=1..5 skewed1,skewed3."""
    common: list[str] = []
    grid: dict[str, list[Any]] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if sign and (match := _RANGE.fullmatch(text)):
            grid[name] = _counted(word, match)
        elif sign and "," in text and text[0] not in "[('\"":
            grid[name] = [value_of(part) for part in text.split(",") if part]
        elif not sign and "," in word:
            names = [part for part in word.split(",") if part]
            grid[_kind(word, names)] = names
        else:
            common.append(word)
    return _plan(experiment, "command line", common, grid, ())


def run_key(config: Mapping[str, Any]) -> str:
    """What names a run by everything that decides its figures: settings of the run and of the stages of its method.

    A setting that is not there (the run is older than it, or the record leaves it out) has its default.

    Raises
    ------
    UserError
        Settings that are not accepted (any more).
    """
    settings = resolve(config)
    used = {stage.name for stage in stages_of(settings["method"], dataset=settings["dataset"])}
    # Elsewhere the folder only says where known files lie; a user's own images are what lies in it.
    brought = {"data_dir"} if settings["dataset"] == "own_images" else set()
    deciding = {name for name in RUN_SETTINGS if decides(name)} | brought
    return digest({name: settings[name] for name in settings if name in used or name in deciding})


def _plan(
    experiment: DebiasExperiment,
    name: str,
    common: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    words: Sequence[str],
) -> Plan:
    known = known_settings()
    for setting, values in grid.items():
        if setting not in known and setting not in NAMED_CONFIGS:
            raise UserError(f"grid: no setting is called {setting!r}{nearest(setting, [*known, *NAMED_CONFIGS])}")
        if not values:
            raise UserError(f"grid: {setting} has no values")
    trials: dict[str, Trial] = {}
    store = None
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        own = [word for setting, value in chosen.items() if (word := _word(setting, value))]
        label = " ".join(f"{setting}={value}" for setting, value in chosen.items())
        trial_words = (*common, *own, *words)
        try:
            config = configured(experiment, trial_words)
            apart = run_key({**config, "seed": 0}) if config["replicas"] > 1 else ""
            about = (config["seed"], config["replicas"], apart, alike_of(resolve(config)), config["device"])
            trial = Trial(trial_words, label or "the only trial", run_key(config), *about)
        except UserError as error:
            raise UserError(f"{label}: {error}" if label else str(error)) from error
        store = Path(config["store"])
        # Two that differ in nothing that decides a figure are one.
        trials.setdefault(trial.key, trial)
    assert store is not None
    return Plan(name, tuple(trials.values()), store)


def _word(setting: str, value: Any) -> str:
    """What says a value of the grid on a command line; empty for no named config of a kind."""
    named = NAMED_CONFIGS.get(setting, {})
    if isinstance(value, str) and value in named and named[value] != {setting: value}:
        return value
    if setting in known_settings():
        return f"{setting}={value!r}"
    if value is None:
        return ""
    raise UserError(f"grid: no {setting} is called {value!r}{nearest(str(value), named)}; there are {', '.join(named)}")


def _kind(word: str, names: Sequence[str]) -> str:
    """The kind of named configs of which all these are."""
    for kind, known in NAMED_CONFIGS.items():
        if names and all(name in known for name in names):
            return kind
    every = [name for known in NAMED_CONFIGS.values() for name in known]
    odd = next((name for name in names if name not in every), "")
    why = f"no named config is called {odd!r}{nearest(odd, every)}" if odd else "these are not of one kind"
    raise UserError(f"{word}: {why}")


def configured(experiment: DebiasExperiment, words: Sequence[str]) -> dict[str, Any]:
    """The whole configuration of a run; nothing is run or recorded."""
    try:
        updates, named = get_config_updates(list(words))
    except TypeError as error:
        raise UserError("a group of settings is also given as one value; give its settings alone") from error
    run = experiment._create_run("print_config", updates, named, None, None, {"--unobserved": True})
    return dict(run.config)


def _listed(where: str, name: str, given: Any) -> list[Any]:
    if isinstance(given, str) and (match := _RANGE.fullmatch(given.strip())):
        return _counted(f"{where}: grid: {name}: {given}", match)
    if isinstance(given, list):
        return given
    raise UserError(f"{where}: grid: {name} needs a list of values, or a range of whole numbers such as 1..5")


def _counted(where: str, match: re.Match[str]) -> list[int]:
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise UserError(f"{where}: an empty range")
    return list(range(first, last + 1))


def value_of(text: str) -> Any:
    """A word's value: a number, a list and the like, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
