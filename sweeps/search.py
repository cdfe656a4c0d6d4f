"""Search of settings by Optuna: what is searched and for which figure, checked first; a storage that survives."""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from config import DebiasExperiment, known_settings
from errors import UserError
from settings import Setting, nearest
from stages.store import digest
from sweeps.engines.base import Engine, outcomes
from sweeps.plan import Plan, Trial, configured, run_key
from sweeps.run import Clock, State, finish, prepare_store
from sweeps.work import Assignment
from tracking.results.tables import Table
from tracking.runs import RunRecord
from vocabulary import FIGURES, SELECTIONS, TAINT

KEYS = ("settings", "trials", "objective", "sampler", "oracle", "seed")
SAMPLERS = ("tpe", "random", "cmaes", "grid")
KINDS = ("log", "uniform", "choice")
# What held-out images are called: see Task.selection.
HELD_OUT = ("valid", "valid_given", "valid_unbiased", "valid_overlapping", "valid_biased")
INSTALL = "a search needs Optuna: pip install 'optuna>=5,<6'"


@dataclass(frozen=True)
class Search:
    """What is searched: ranges as in `Setting.search`, how many trials, and the figure that is to be large.

    objective : `valid/<read-out>/average`, or, of the test set, <read-out>/<figure>/<selection>
    identity : what makes it this search and no other; more trials of it, or on other threads, are still the same
    """

    name: str
    words: tuple[str, ...]
    ranges: Mapping[str, tuple[Any, ...]]
    trials: int
    objective: str
    sampler: str
    seed: int
    store: Path
    identity: str

    @property
    def file(self) -> Path:
        """Where its trials are kept."""
        return self.store / "sweeps" / f"{self.name}.journal"


def read_search(experiment: DebiasExperiment, name: str, words: Sequence[str], given: Any) -> Search:
    """The part `search` of a sweep's YAML file.

        search:
          settings:                            what is searched:
            finetune.upweight: {log: [5, 100]}     a range, on a logarithmic scale or `uniform`
            finetune.learning_rate: default        where this setting is searched by itself
            prune.sampling: {choice: [textbook, reference]}
          objective: valid/model/average       accuracy on held-out images in the best epoch, the larger the better
          trials: 30
          sampler: tpe                         or random, cmaes, grid
          oracle: false                        true allows figures of the test set, such as model/unbiased/last

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
    sampler = given.get("sampler", "tpe")
    if sampler not in SAMPLERS:
        raise UserError(f"search: sampler={sampler!r}: one of {', '.join(SAMPLERS)}{nearest(str(sampler), SAMPLERS)}")
    if sampler == "grid" and any(kind != "choice" for kind, *_ in ranges.values()):
        raise UserError("search: sampler=grid needs a choice of values for every setting")
    oracle, seed = given.get("oracle", False), given.get("seed", 0)
    if not isinstance(oracle, bool):
        raise UserError(f"search: oracle={oracle!r}: true or false, without quotes")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"search: seed={seed!r}: a whole number")
    objective = _objective(given.get("objective"), oracle)
    middle = {path: value[1][0] if value[0] == "choice" else value[1] for path, value in ranges.items()}
    config = configured(experiment, (*words, *_words(middle)))
    if objective.startswith("valid/") and not config["valid_fraction"]:
        raise UserError(f"search: objective={objective}: set valid_fraction, so that there are images to select on")
    identity = digest([run_key(config), {path: list(value) for path, value in ranges.items()}, objective])
    return Search(name, tuple(words), ranges, trials, objective, sampler, seed, Path(config["store"]), identity)


def run_search(experiment: DebiasExperiment, search: Search, engine: Engine, say: Callable[[str], None]) -> list[State]:
    """Run trials until so many are finished; those of an earlier command count, and an interrupted one is made again.

    Raises
    ------
    UserError
        Optuna is not installed, the storage holds another search, or another process is at this one.
    """
    optuna = _optuna()
    plan = Plan(search.name, (), search.store)
    prepare_store(plan)
    try:
        # Without it the other one's living trial would be taken for the trial of a process that died.
        with FileLock(search.file.with_suffix(".lock"), timeout=0):
            return _run(optuna, experiment, search, plan, engine, say)
    except Timeout as error:
        raise UserError(f"{search.file}: another process is at this search; wait for it, or stop it") from error


def _run(
    optuna: Any,
    experiment: DebiasExperiment,
    search: Search,
    plan: Plan,
    engine: Engine,
    say: Callable[[str], None],
) -> list[State]:
    study = _study(optuna, search)
    done = optuna.trial.TrialState.COMPLETE
    lost = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
    for trial in lost:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    finished = sum(trial.state == done for trial in study.trials)
    clock = Clock(max(0, search.trials - finished), engine.slots)
    say(f"{search.name}: {search.trials} trials" + (f", {finished} of them finished before" if finished else ""))
    distributions = {path: _distribution(optuna, path, value) for path, value in search.ranges.items()}
    most = search.trials
    if search.sampler == "grid":
        most = min(most, math.prod(len(value[1]) for value in search.ranges.values()))
    states: list[State] = []
    # By key: two that are equal in all that decides a figure are one run, and are both told of it.
    asked: dict[str, list[tuple[Any, State]]] = {}
    failures = 0

    def assignments() -> Iterator[Assignment]:
        """Asked for one by one: what is tried next goes by what came before."""
        while finished + sum(map(len, asked.values())) < most and failures < search.trials:
            trial = study.ask(distributions)
            words = (*search.words, *_words(trial.params))
            label = " ".join(f"{path}={_short(value)}" for path, value in trial.params.items())
            state = State(Trial(words, label, run_key(configured(experiment, words))), "running")
            say(f"[{len(states) + 1}/{clock.total}] {label}")
            states.append(state)
            asked.setdefault(state.trial.key, []).append((trial, state))
            yield Assignment(state.trial, search.store, wait=True)

    for assignment, outcome in outcomes(engine, assignments(), say):
        trial, state = asked[assignment.trial.key].pop(0)
        finish(plan, state, outcome, say, clock)
        value = None if state.record is None else objective_of(state.record, search.objective)
        if value is None:
            failures += 1
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if state.record is not None:
                raise UserError(f"search: a run has no figure {search.objective}{_near(search, state.record)}")
            continue
        study.tell(trial, value)
        finished += 1
        say(f"   {search.objective} {value:.2f}, the best so far {study.best_value:.2f}")
    return states


def objective_of(record: RunRecord, objective: str) -> float | None:
    """A figure of the final model in percent: of held-out images in their best epoch, or one of the run's summary.

    A summary's `valid` names the epoch, the figure itself is of the test set: what held-out images say is in the
    curves.
    """
    if objective in record.summary:
        return record.summary[objective]
    curves = _curves(record)
    found = [values for name, values in curves.items() if name.partition("/")[2] == objective]
    return max(found[-1]) if found and found[-1] else None


def _curves(record: RunRecord) -> dict[str, list[float]]:
    try:
        metrics = json.loads((record.folder / "metrics.json").read_text(encoding="utf-8"))
        return {name: [float(value) for value in curve["values"]] for name, curve in metrics.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _near(search: Search, record: RunRecord) -> str:
    held_out = {name.partition("/")[2] for name in _curves(record) if "/valid" in name}
    return nearest(search.objective, held_out if search.objective.startswith("valid") else record.summary)


def best_table(search: Search, top: int = 10) -> Table:
    """The best trials, and below them the mean ± std of the best three, as EnD reports its searches."""
    optuna = _optuna()
    study = _study(optuna, search)
    trials = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    trials.sort(key=lambda trial: -trial.value)
    rows = [
        [str(trial.number + 1), *(_short(trial.params[path]) for path in search.ranges), f"{trial.value:.2f}"]
        for trial in trials[:top]
    ]
    notes = []
    if len(trials) >= 3:
        best = [trial.value for trial in trials[:3]]
        mean = sum(best) / 3
        notes.append(f"best three: {mean:.2f} ± {math.sqrt(sum((value - mean) ** 2 for value in best) / 2):.2f}")
    if not search.objective.startswith("valid"):
        notes.append("oracle: these settings were chosen on the test set")
    head = ["trial", *search.ranges, search.objective]
    return Table(f"{search.name}: best of {len(trials)} trials, %", head, rows, [], notes)


def write_plots(search: Search) -> list[Path]:
    """History and importance of the searched settings as PNG beside the storage; importance from ten trials on."""
    optuna = _optuna()
    import matplotlib

    matplotlib.use("Agg")
    study = _study(optuna, search)
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    drawn: list[Path] = []
    draw = optuna.visualization.matplotlib
    plots = {"history": draw.plot_optimization_history}
    if len(done) >= 10 and len({trial.value for trial in done}) > 1:
        plots["importance"] = draw.plot_param_importances
    for what, plot in plots.items():
        if done:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                axes = plot(study, target_name=search.objective)
            path = search.file.with_name(f"{search.name}-{what}.png")
            axes.figure.savefig(path, dpi=110, bbox_inches="tight")
            matplotlib.pyplot.close(axes.figure)
            drawn.append(path)
    return drawn


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError(INSTALL) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: Any, search: Search) -> Any:
    grid = {path: list(value[1]) for path, value in search.ranges.items() if value[0] == "choice"}
    made = {
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
        "grid": lambda _: optuna.samplers.GridSampler(grid, seed=search.seed),
    }
    if search.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError as error:
            raise UserError("search: sampler=cmaes needs the package cmaes: pip install cmaes") from error
    try:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(search.file)))
        study = optuna.create_study(
            study_name="sweep", storage=storage, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{search.file}: no search can be read from it ({error})") from error
    # A sampler that is made anew would draw again what it has drawn.
    study.sampler = made[search.sampler](search.seed + len(study.trials))
    held = study.user_attrs.get("identity")
    if held is None:
        study.set_user_attr("identity", search.identity)
    elif held != search.identity:
        raise UserError(
            f"{search.file} holds another search (other settings, ranges or objective); "
            "rename the sweep's file, or remove the storage to start anew"
        )
    return study


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
        raise UserError(f"search: {path} is no number, so it has no range; give it a choice")
    if len(values) != 2 or not values[0] < values[1] or (kind == "log" and values[0] <= 0):
        raise UserError(
            f"search: {path}: {kind} needs two numbers, the smaller first" + " and above 0" * (kind == "log")
        )
    return kind, number(values[0]), number(values[1])


def _objective(given: Any, oracle: bool) -> str:
    parts = str(given).split("/")
    if len(parts) == 3 and parts[0] in HELD_OUT:
        if parts[2] != "average":
            raise UserError(f"search: objective={given}: bias labels of held-out images are not read; write average")
        return str(given)
    selection = parts[-1].removesuffix(TAINT)
    if len(parts) != 3 or parts[1] not in FIGURES or selection not in {*SELECTIONS, *HELD_OUT}:
        raise UserError(
            f"search: objective={given!r}: write valid/<read-out>/average, or, with `oracle: true`, "
            f"<read-out>/<figure>/<selection> with one of {', '.join(FIGURES)} and of {', '.join(SELECTIONS)}"
        )
    if not oracle:
        raise UserError(
            f"search: objective={given}: a figure of the test set; search by one of held-out images, "
            f"valid/{parts[0]}/average, or say `oracle: true` if that is meant"
        )
    return str(given)


def _distribution(optuna: Any, path: str, value: tuple[Any, ...]) -> Any:
    kind, *bounds = value
    made = optuna.distributions
    if kind == "choice":
        return made.CategoricalDistribution(list(bounds[0]))
    if all(isinstance(bound, int) for bound in bounds) and _whole(path):
        return made.IntDistribution(*bounds, log=kind == "log")
    return made.FloatDistribution(*map(float, bounds), log=kind == "log")


def _whole(path: str) -> bool:
    setting = known_settings()[path]
    return (setting.kind or type(setting.default)) is int


def _words(params: Mapping[str, Any]) -> list[str]:
    return [f"{path}={value!r}" for path, value in params.items()]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
