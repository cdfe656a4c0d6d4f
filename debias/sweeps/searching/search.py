"""Search of settings by Optuna: runs trials, tells the study how each ended, and survives whatever stops it."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from filelock import FileLock, Timeout

from debias.catalogue import known_settings
from debias.config import DebiasExperiment
from debias.errors import UserError
from debias.redaction import redact
from debias.settings import nearest
from debias.sweeps.drive import Clock, State, duration, finish, prepare_store
from debias.sweeps.engines.base import Engine, endings
from debias.sweeps.plan import Plan, Trial, configured, run_key
from debias.sweeps.searching.pruning import SearchTrial
from debias.sweeps.searching.spec import Search, deciding_stage, metric_of, rounds_of
from debias.sweeps.searching.study import (
    ADDRESS,
    fixed_sampler,
    is_address,
    is_oracle,
    load_optuna,
    make_sampler,
    note,
    open_study,
    short,
    words_of,
)
from debias.sweeps.work import Assignment, Ending
from debias.tracking.folders import RunRecord, read_json


def run_search(experiment: DebiasExperiment, search: Search, engine: Engine, say: Callable[[str], None]) -> list[State]:
    """Run trials until so many are finished or pruned; those of an earlier command count.

    A trial whose process died is made again, with the values it had.

    Raises
    ------
    UserError
        Optuna is not installed, the storage holds another search or cannot be used, or another process is at this one.
    """
    load_optuna()
    prepare_store(Plan(search.name, (), search.store))
    try:
        # Without it the other one's living trial would be taken for the trial of a process that died.
        with FileLock(search.folder / f"{search.name}.lock", timeout=0):
            return _Running(experiment, search, engine, say).run()
    except Timeout as error:
        place = search.folder / search.name
        raise UserError(f"{place}: another process is at this search; wait for it, or stop it") from error


class _Running:
    """A search that is under way.

    done : trials that are finished or pruned
    asked : those that are out, by number
    """

    def __init__(
        self, experiment: DebiasExperiment, search: Search, engine: Engine, say: Callable[[str], None]
    ) -> None:
        self.experiment, self.search, self.engine, self.say = experiment, search, engine, say
        self.states_of = load_optuna().trial.TrialState
        self.study = opened_study(search)
        self.states: list[State] = []
        self.asked: dict[int, tuple[Any, State]] = {}
        self.failures = 0
        self._take_up_lost()
        trials = self.study.get_trials(deepcopy=False)
        pruned = [trial for trial in trials if trial.state == self.states_of.PRUNED]
        self.given_up = {trial.user_attrs["key"] for trial in pruned if "key" in trial.user_attrs}
        self.done = len(pruned) + sum(trial.state == self.states_of.COMPLETE for trial in trials)
        self.cells = self._cells(trials)

    def run(self) -> list[State]:
        search, engine = self.search, self.engine
        before = f", {self.done} of them finished before" if self.done else ""
        self.say(f"{search.name}: {search.trials} trials{before}")
        left = max(0, self._most() - self.done)
        # A search that is finished starts no engine.
        slots = engine.slots if left else 1
        if slots > 1:
            self.study = opened_study(search, parallel=True)
        self.clock = Clock(left, slots)
        for assignment, ending in endings(engine, self._assignments(), self.say):
            assert assignment.search_trial is not None
            trial, state = self.asked.pop(assignment.search_trial.trial)
            self._take_down(trial, state, ending)
        return self.states

    def _take_up_lost(self) -> None:
        """Trials whose process died are asked for again; those that it had just pruned stay so."""
        for trial in self.study.get_trials(deepcopy=False, states=(self.states_of.RUNNING,)):
            if "pruned" in trial.user_attrs:
                self.study.tell(trial.number, state=self.states_of.PRUNED)
                continue
            # The cells of a grid that are not done are asked for anyway. First into the queue: it must not be lost.
            if self.search.sampler != "grid":
                self.study.enqueue_trial(trial.params)
            self.study.tell(trial.number, state=self.states_of.FAIL)

    def _cells(self, trials: list[Any]) -> Iterator[Mapping[str, Any]] | None:
        """The cells of a grid that are not done; None for a sampler that draws. Optuna's own may ask one twice."""
        if self.search.sampler != "grid":
            return None
        ended = [trial.params for trial in trials if trial.state in (self.states_of.COMPLETE, self.states_of.PRUNED)]
        names, choices = zip(*((path, value[1]) for path, value in self.search.ranges.items()), strict=True)
        cells = (dict(zip(names, cell, strict=True)) for cell in itertools.product(*choices))
        return iter([cell for cell in cells if cell not in ended])

    def _most(self) -> int:
        cells = (
            math.prod(len(value[1]) for value in self.search.ranges.values()) if self.cells is not None else math.inf
        )
        return int(min(self.search.trials, cells))

    def _assignments(self) -> Iterator[Assignment | None]:
        """Asked for one by one: what is tried next goes by what came before."""
        search = self.search
        distributions = {path: _distribution(path, value) for path, value in search.ranges.items()}
        while self.done < self._most() and self.failures < search.trials:
            if self.done + len(self.asked) >= self._most():
                yield None  # unless one of those that are out fails
                continue
            if self.cells is not None:
                cell = next(self.cells, None)
                if cell is None:
                    return
                self.study.sampler = fixed_sampler(cell)
            trial = self.study.ask(distributions)
            words = (*search.words, *words_of(trial.params))
            label = " ".join(f"{path}={short(value)}" for path, value in trial.params.items())
            config = configured(self.experiment, words)
            state = State(Trial(words, label, run_key(config)), "running")
            self.states.append(state)
            trial.set_user_attr("key", state.trial.key)
            self.say(f"[{len(self.states)}/{self.clock.total}] {label}")
            if state.trial.key in self.given_up:
                # Optuna may draw what it has drawn before; what a finished one gave is found in the store.
                self._take_down(trial, state, Ending("pruned", seconds=0.0))
                continue
            self.asked[trial.number] = trial, state
            yield Assignment(
                state.trial, search.store, wait=True, search_trial=self._search_trial(trial.number, config)
            )

    def _search_trial(self, number: int, config: Mapping[str, Any]) -> SearchTrial:
        search, stage = self.search, deciding_stage(self.search.objective, config)
        assert stage is not None
        best = not is_oracle(search.objective) or search.objective.endswith("/oracle")
        return SearchTrial(
            search.storage, search.name, number, metric_of(search.objective, stage), best, rounds_of(config, stage),
            (search.pruner, search.most_rounds // 4 + 1, search.most_rounds),
        )  # fmt: skip

    def _take_down(self, trial: Any, state: State, ending: Ending) -> None:
        """Tell the study how a trial ended, and say it."""
        search, clock = self.search, self.clock
        if ending.status == "pruned":
            state.status, state.seconds = ending.status, ending.seconds
            self.study.tell(trial, state=self.states_of.PRUNED)
            self.given_up.add(state.trial.key)
            self.done += 1
            clock.took(ending.seconds)
            took = duration(ending.seconds or 0)
            self.say(f"[{clock.done}/{clock.total}] {state.trial.label}: pruned after {took}{clock.left()}")
            return
        finish(Plan(search.name, (), search.store), state, ending, self.say, clock)
        record = state.record
        value = None if record is None else objective_of(record, search.objective)
        if record is None or value is None:
            self.failures += 1
            self.study.tell(trial, state=self.states_of.FAIL)
            if record is not None:
                raise UserError(f"search: a run has no figure {search.objective}{_near(search, record)}")
            return
        trial.set_user_attr("run", str(record.folder))
        if (tested := tested_of(record, search.objective)) is not None:
            trial.set_user_attr("tested", tested)
        self.study.tell(trial, value)
        self.done += 1
        self.say(f"   {search.objective} {value:.2f}, the best so far {self.study.best_value:.2f}")


def opened_study(search: Search, parallel: bool = False) -> Any:
    """The study of a search, made when it is not there.

    Raises
    ------
    UserError
        The storage cannot be used, or holds another search.
    """
    place = redact(search.storage)
    # Before anything is made: it may need a package.
    make_sampler(search.sampler, search.seed, parallel)
    study = open_study(search.storage, search.name)
    held = study.user_attrs.get("identity")
    if held not in (None, search.identity):
        raise UserError(
            f"{place} holds another search {search.name!r} (other settings, ranges or objective); "
            "rename the sweep's file, or remove the storage to start again"
        )
    # A sampler that is made again would draw again what it has drawn.
    study.sampler = make_sampler(search.sampler, search.seed + len(study.trials), parallel)
    words = [redact(word) for word in search.words]
    note(study, identity=search.identity, objective=search.objective, words=words, trials=search.trials)
    address = search.folder / f"{search.name}{ADDRESS}"
    if is_address(search.storage):
        address.write_text(place + "\n", encoding="utf-8")
    else:
        address.unlink(missing_ok=True)
    return study


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


def tested_of(record: RunRecord, objective: str) -> float | None:
    """Test accuracy in the epoch that an objective of held-out images chooses: unbiased, or plain without bias labels.

    None for an objective that is a figure of the test set itself.
    """
    if is_oracle(objective):
        return None
    selection, read_out, _ = objective.split("/")
    names = [f"{read_out}/{figure}/{selection}" for figure in ("unbiased", "average")]
    return next((record.summary[name] for name in names if name in record.summary), None)


def _curves(record: RunRecord) -> dict[str, list[float]]:
    try:
        metrics = read_json(record.folder / "metrics.json")
        return {name: [float(value) for value in curve["values"]] for name, curve in metrics.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _near(search: Search, record: RunRecord) -> str:
    held_out = {name.partition("/")[2] for name in _curves(record) if "/valid" in name}
    return nearest(search.objective, record.summary if is_oracle(search.objective) else held_out)


def _distribution(path: str, value: tuple[Any, ...]) -> Any:
    kind, *bounds = value
    made = load_optuna().distributions
    if kind == "choice":
        return made.CategoricalDistribution(list(bounds[0]))
    setting = known_settings()[path]
    if all(isinstance(bound, int) for bound in bounds) and (setting.kind or type(setting.default)) is int:
        return made.IntDistribution(*bounds, log=kind == "log")
    return made.FloatDistribution(*map(float, bounds), log=kind == "log")
