"""What a search is: the part `search` of a sweep's file, checked before anything starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debias.catalogue import decides, known_settings
from debias.config import DebiasExperiment
from debias.data.generated.biased import VALIDATIONS
from debias.digests import digest
from debias.errors import UserError
from debias.settings import Setting, nearest
from debias.stages.recipes import STAGES, stages_of
from debias.sweeps.plan import configured, run_key
from debias.sweeps.searching.study import PRUNERS, SAMPLERS, checked_address, is_oracle, journal_of, words_of
from debias.training.stage import Stage
from debias.vocabulary import FIGURES, SELECTIONS, TAINT

KEYS = ("settings", "trials", "objective", "sampler", "pruner", "storage", "oracle", "seed")
KINDS = ("log", "uniform", "choice")


@dataclass(frozen=True)
class Search:
    """What is searched: ranges as in `Setting.search`, how many trials, and the figure that is to be large.

    objective : `valid/<read-out>/average`, or, of the test set, <read-out>/<figure>/<selection>
    storage : journal file, or address of a database
    identity : what makes it this search and no other; more trials of it, or on other threads, are still the same
    most_rounds : epochs of its longest trial, in the stage that decides the objective
    """

    name: str
    words: tuple[str, ...]
    ranges: Mapping[str, tuple[Any, ...]]
    trials: int
    objective: str
    sampler: str
    pruner: str
    seed: int
    store: Path
    storage: str = field(repr=False)  # may have a password
    identity: str
    most_rounds: int

    @property
    def folder(self) -> Path:
        """Where its lock and its pictures are."""
        return self.store / "sweeps"


def read_search(experiment: DebiasExperiment, name: str, words: Sequence[str], given: Any) -> Search:
    """The part `search` of a sweep's YAML file.

        search:
          settings:                            what is searched:
            finetune.upweight: {log: [5, 100]}     a range, on a logarithmic scale or `uniform`
            finetune.learning_rate: default        where this setting is searched by itself
            prune.sampling: {choice: [textbook, reference]}
          objective: valid/target/average      accuracy on held-out images in the best epoch, the larger the better
          trials: 30                           finished or pruned
          sampler: tpe                         or random, cmaes, grid
          pruner: median                       when a trial is pruned: or none, halving, hyperband
          storage: sqlite:///searches.db       a database instead of a journal file in the store
          oracle: false                        true allows figures of the test set, such as target/unbiased/last

    Raises
    ------
    UserError
        What is wrong with it.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"search: it has the keys {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise UserError(f"search: nothing is known of {key!r}{nearest(str(key), KEYS)}")
    settings = given.get("settings")
    if not isinstance(settings, Mapping) or not settings:
        raise UserError("search: settings names what is searched, as in {finetune.upweight: {log: [5, 100]}}")
    known = known_settings()
    ranges = {str(path): _range(str(path), value, known) for path, value in settings.items()}
    trials = given.get("trials", 20)
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise UserError(f"search: trials={trials!r}: a whole number of at least 1")
    sampler = _one_of("sampler", given.get("sampler", "tpe"), SAMPLERS)
    pruner = _one_of("pruner", given.get("pruner", "median"), PRUNERS)
    if sampler == "grid" and any(kind != "choice" for kind, *_ in ranges.values()):
        raise UserError("search: sampler=grid needs a choice of values for every setting")
    oracle, seed = given.get("oracle", False), given.get("seed", 0)
    if not isinstance(oracle, bool):
        raise UserError(f"search: oracle={oracle!r}: true or false, without quotes")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"search: seed={seed!r}: a whole number")
    first = {path: value[1][0] if value[0] == "choice" else value[1] for path, value in ranges.items()}
    config = configured(experiment, (*words, *words_of(first)))
    if config["replicas"] > 1:
        raise UserError(f"search: replicas={config['replicas']}: a trial of a search is one seed; leave it out")
    largest = {path: max(value[1]) if value[0] == "choice" else value[2] for path, value in _lengths(ranges)}
    methods = ranges["method"][1] if "method" in ranges else [config["method"]]
    configs = [configured(experiment, (*words, *words_of(first | {"method": method} | largest))) for method in methods]
    stages = [check_objective(given.get("objective"), oracle, one) for one in configs]
    _check_used(ranges, given["objective"], stages, configs)
    rounds = max(rounds_of(one, stage) for one, stage in zip(configs, stages, strict=True))
    objective = str(given["objective"])
    store = Path(config["store"])
    storage = given.get("storage")
    storage = str(journal_of(store, name)) if storage is None else checked_address(storage)
    identity = digest([run_key(config), {path: list(value) for path, value in ranges.items()}, objective])
    return Search(
        name, tuple(words), ranges, trials, objective, sampler, pruner, seed, store, storage, identity, rounds
    )


def deciding_stage(objective: str, config: Mapping[str, Any]) -> Stage | None:
    """The last stage of a run that reports the objective's read-out; its figures are the run's."""
    parts = objective.split("/")
    read_out = (parts[0] if is_oracle(objective) else parts[1]).partition("@")[0]
    stages = stages_of(config["method"], dataset=config["dataset"])
    return next((stage for stage in reversed(stages) if read_out in stage.read_outs), None)


def metric_of(objective: str, stage: Stage) -> str:
    """What a run logs each epoch of the objective's figure."""
    return f"{stage.name}/{objective.rpartition('/')[0] if is_oracle(objective) else objective}"


def rounds_of(config: Mapping[str, Any], stage: Stage) -> int:
    """How many epochs, or evaluations, a stage has."""
    own = config[stage.name]
    if own.get("steps"):
        return int(own["steps"] // min(own["evaluate_every"], own["steps"]))
    return int(own["epochs"])


def held_out_name(config: Mapping[str, Any]) -> str | None:
    """What held-out images are called in a run's figures (`Task.selection`); None when there are none."""
    if config["valid_fraction"]:
        biased = str(config["dataset"]).startswith("biased_")
        return VALIDATIONS[config["validation"]] if biased else "valid"
    return "valid_given" if config.get("own_valid") else None


def check_objective(given: Any, oracle: bool, config: Mapping[str, Any]) -> Stage:
    """The stage that decides an objective, which a run of these settings has and may be searched by.

    Raises
    ------
    UserError
        It has none such, or it is of the test set and `oracle` is not true.
    """
    objective, stages = str(given), stages_of(config["method"], dataset=config["dataset"])
    read_outs = list(dict.fromkeys(name for stage in reversed(stages) for name in stage.read_outs))
    held_out = held_out_name(config)
    honest = [f"{held_out or 'valid'}/{name}/average" for name in read_outs]
    selections = [name for name in SELECTIONS if not name.startswith("valid")] + ([held_out] if held_out else [])
    tested = [f"{name}/{figure}/{selection}" for name in read_outs for figure in FIGURES for selection in selections]
    parts = objective.split("/")
    if len(parts) == 3 and parts[0] in {"valid", *VALIDATIONS.values(), "valid_given"}:
        if parts[2] != "average":
            raise UserError(
                f"search: objective={given}: bias labels of held-out images are not read; write "
                f"{parts[0]}/{parts[1]}/average"
            )
        if held_out is None:
            raise UserError(f"search: objective={given}: set valid_fraction, so that there are images to select on")
        if parts[0] != held_out:
            raise UserError(f"search: objective={given}: held-out images of this run are called {held_out}")
    elif len(parts) != 3 or parts[1] not in FIGURES or parts[2].removesuffix(TAINT) not in selections:
        raise UserError(
            f"search: objective={given!r}: write {honest[0] if honest else 'valid/<read-out>/average'}, or, with "
            f"`oracle: true`, <read-out>/<figure>/<selection> with one of {', '.join(FIGURES)} and of "
            f"{', '.join(selections)}{nearest(objective, [*honest, *tested])}"
        )
    elif not oracle:
        raise UserError(
            f"search: objective={given}: a figure of the test set; search by one of held-out images, "
            f"{held_out or 'valid'}/{parts[0]}/average, or say `oracle: true` if that is meant"
        )
    stage = deciding_stage(objective, config)
    if stage is None:
        near = nearest(objective, honest if objective.startswith("valid") else tested)
        raise UserError(
            f"search: objective={given}: no stage of method={config['method']} has such a read-out; there are "
            f"{', '.join(read_outs)}{near}"
        )
    return stage


def _check_used(
    ranges: Mapping[str, Any], objective: str, deciding: Sequence[Stage], configs: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse settings that cannot change the objective: of stages that do not run, or run after it is decided."""
    runs = [[stage.name for stage in stages_of(one["method"], dataset=one["dataset"])] for one in configs]
    for path in ranges:
        group = path.rpartition(".")[0]
        if not decides(path):
            raise UserError(f"search: {path} decides no figure, so there is nothing to search")
        if group not in STAGES:
            continue
        if not any(group in names for names in runs):
            raise UserError(
                f"search: {path}: method={configs[0]['method']} has no stage {group}; its stages are "
                f"{', '.join(runs[0])}"
            )
        for names, stage in zip(runs, deciding, strict=True):
            if group in names[names.index(stage.name) + 1 :]:
                last = next((name for own in reversed(names) for name in STAGES[own].read_outs), "")
                raise UserError(
                    f"search: objective={objective}: decided by the stage {stage.name}, before {group}, so {path} does "
                    f"not change it; search by a figure of {last}"
                )


def _lengths(ranges: Mapping[str, tuple[Any, ...]]) -> list[tuple[str, tuple[Any, ...]]]:
    return [(path, value) for path, value in ranges.items() if path.endswith((".epochs", ".steps"))]


def _one_of(key: str, given: Any, known: Sequence[str]) -> str:
    if given not in known:
        raise UserError(f"search: {key}={given!r}: one of {', '.join(known)}{nearest(str(given), known)}")
    return str(given)


def _range(path: str, given: Any, known: Mapping[str, Setting]) -> tuple[Any, ...]:
    if path not in known:
        raise UserError(f"search: no setting is called {path!r}{nearest(path, known)}")
    setting = known[path]
    if given == "default":
        if setting.search is None:
            raise UserError(f"search: {path} has no range of its own; give one, as in {{log: [0.001, 1]}}")
        return setting.search
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in KINDS:
        raise UserError(f"search: {path}: write default, or one of {', '.join(KINDS)} with a list")
    kind, values = next(iter(given.items()))
    if not isinstance(values, list) or not values:
        raise UserError(f"search: {path}: {kind} needs a list of values")
    for value in values:
        setting.check(path, value)
    if kind == "choice":
        return kind, tuple(values)
    number = setting.kind or type(setting.default)
    if None in values:
        raise UserError(f"search: {path}: {kind} needs two numbers")
    if number not in (int, float):
        raise UserError(f"search: {path} is not a number, so it has no range; give it a choice")
    if len(values) != 2 or not values[0] < values[1] or (kind == "log" and values[0] <= 0):
        raise UserError(
            f"search: {path}: {kind} needs two numbers, the smaller first" + " and above 0" * (kind == "log")
        )
    return kind, number(values[0]), number(values[1])
