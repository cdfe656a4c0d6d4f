"""Drives a sweep: gives its trials to an engine, says how each ended and when the rest will be; finished ones stay."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from filelock import FileLock

from debias.errors import UserError
from debias.sweeps.engines.base import Engine, endings
from debias.sweeps.finished import finished_runs
from debias.sweeps.plan import Plan, Trial
from debias.sweeps.together import trained_together, whole
from debias.sweeps.work import Assignment, Ending
from debias.tracking.folders import RunRecord
from debias.tracking.results.records import write_records
from debias.tracking.results.tables import Table


@dataclass
class State:
    """Where a trial stands: waiting, running, finished or failed."""

    trial: Trial
    status: str = "waiting"
    record: RunRecord | None = None
    seconds: float | None = None
    error: str = ""


def states_of(plan: Plan) -> list[State]:
    """What the store knows of each trial: its newest finished run, whoever started it."""
    done = finished_runs(plan.store, plan.record_file)
    return [State(trial, "finished" if trial.key in done else "waiting", done.get(trial.key)) for trial in plan.trials]


def run_sweep(plan: Plan, engine: Engine, say: Callable[[str], None]) -> list[State]:
    """Run what is not finished; a trial that fails does not stop the others.

    A trial that another sweep of the same store is running is left to it, and looked at again at the end: when that one
    has died without finishing, its trial is run here.
    """
    prepare_store(plan)
    states = states_of(plan)
    reused = sum(state.status == "finished" for state in states)
    say(f"{plan.name}: {len(states)} trials" + (f", {reused} of them finished before" if reused else ""))
    # Also those that finished just before an earlier sweep was killed.
    keep_records(plan, records_of(states))
    todo = [state for state in states if state.status != "finished"]
    clock = Clock(len(todo), engine.slots if todo else 1)
    by_key = {state.trial.key: state for state in todo}
    groups = trained_together([state.trial for state in todo], plan.together)
    waiting = deque([by_key[trial.key] for trial in group] for group in groups)
    given: dict[str, list[State]] = {}
    numbers: dict[str, int] = {}

    def assignments() -> Iterator[Assignment | None]:
        while True:
            if not waiting:
                yield None  # for now: of seeds that were to be trained simultaneously some may be left over
                continue
            group = waiting.popleft()
            first = group[0].trial
            several: tuple[Trial, ...] = ()
            if first.replicas > 1:
                trial = first.with_seeds(len(group))
            elif len(group) > 1:
                several = tuple(state.trial for state in group)
                trial = whole(several)
            else:
                trial = after_training(first) if first.key in clock.shares else first
            given[trial.key] = group
            for state in group:
                state.status = "running"
                numbers.setdefault(state.trial.key, len(numbers) + 1)
            say(f"[{numbers[first.key]}/{len(todo)}] {trial.label}")
            yield Assignment(trial, plan.store, plan.record_file, n_seeds=len(group), group=several)

    for assignment, ending in endings(engine, assignments(), say):
        if assignment.group:
            trained = given.pop(assignment.trial.key)
            if ending.error:
                say(f"{assignment.trial.label}: not trained together ({ending.error}); now one by one")
            clock.trained(assignment, ending)
            waiting.extendleft([state] for state in reversed(trained))
            continue
        first, *others = given.pop(assignment.trial.key)
        ending = clock.with_share(assignment, ending)
        if ending.seconds is not None:
            ending = replace(ending, seconds=ending.seconds / (1 + len(others)))
        finish(plan, first, ending, say, clock)
        found = finished_runs(plan.store, plan.record_file) if others else {}
        for state in others:
            if state.trial.key in found:
                finish(plan, state, replace(ending, status="finished", record=found[state.trial.key]), say, clock)
            else:
                waiting.append([state])
    return states


def after_training(trial: Trial) -> Trial:
    """A trial whose stages have just been computed, and are not to be computed again, whatever `fresh` says."""
    fresh = any(word.partition("=")[0] == "fresh" for word in trial.words)
    return replace(trial, words=(*trial.words, "fresh=False")) if fresh else trial


def prepare_store(plan: Plan) -> None:
    """Make the folder in which sweeps keep their locks and searches."""
    try:
        (plan.store / "sweeps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"store={plan.store}: cannot be written to ({error.strerror})") from error


def finish(plan: Plan, state: State, ending: Ending, say: Callable[[str], None], clock: "Clock") -> None:
    """Record how a trial ended, in its state and in the sweep's record, and report it."""
    state.status, state.record = ending.status, ending.record
    state.seconds, state.error = ending.seconds, ending.error
    clock.took(ending.seconds)
    if ending.record is not None:
        keep_records(plan, [ending.record])
    say(f"[{clock.done}/{clock.total}] {state.trial.label}: {_ending(state)}{clock.left()}")


def keep_records(plan: Plan, records: Sequence[RunRecord]) -> None:
    """Add runs of the store to the sweep's CSV file; those that come from the file itself have no folder."""
    new = [record for record in records if record.folder.parent == plan.store]
    if plan.record_file is not None and new:
        with FileLock(plan.store / "sweeps" / "record.lock"):
            write_records(new, plan.record_file)


class Clock:
    """How many trials are done, and when the last will be, if all take as long as those so far, `slots` at a time.

    shares : of trials that were trained in a group and are not done yet, by key: seconds of that training
    """

    def __init__(self, total: int, slots: int = 1) -> None:
        self.total, self.done, self._slots = total, 0, slots
        self._seconds: list[float] = []
        self.shares: dict[str, float] = {}

    def trained(self, group: Assignment, ending: Ending) -> None:
        """A group is trained; each of its trials has its share in the seconds."""
        keys = [trial.key for trial in group.group]
        self.shares |= dict.fromkeys(keys, (ending.seconds or 0.0) / len(keys))

    def with_share(self, assignment: Assignment, ending: Ending) -> Ending:
        """The ending of a trial with the seconds of its training in a group, where there was one."""
        share = self.shares.pop(assignment.trial.key, 0.0)
        return ending if ending.seconds is None else replace(ending, seconds=ending.seconds + share)

    def took(self, seconds: float | None) -> None:
        """A trial is done; None for one that another process had run."""
        self.done += 1
        if seconds is not None:
            self._seconds.append(seconds)

    def left(self) -> str:
        rest = self.total - self.done
        if not rest or not self._seconds:
            return ""
        seconds = -(-rest // self._slots) * sum(self._seconds) / len(self._seconds)
        seconds = max(0.0, seconds - sum(self.shares.values()) / self._slots)
        end = datetime.now() + timedelta(seconds=seconds)
        return f"; about {duration(seconds)} left, until {end:%a %H:%M}"


def progress_table(plan: Plan, states: Sequence[State], groups: bool = False) -> Table:
    """Every trial with its status, its result (%), its seconds and its run folder or its error.

    groups : whether to show which of those that are not finished are to be trained simultaneously
    """
    rows = [
        [
            state.trial.label,
            state.status,
            "" if state.record is None else f"{result_of(state.record):.2f}",
            "" if state.seconds is None else duration(state.seconds),
            state.error if state.record is None else str(state.record.folder),
        ]
        for state in states
    ]
    head = ["trial", "status", "result", "time", "run, or error"]
    if groups and (numbers := _group_numbers(plan, states)):
        head.append("together")
        rows = [[*row, numbers.get(state.trial.key, "")] for row, state in zip(rows, states, strict=True)]
    left = [name for name in head if name not in ("result", "time")]
    return Table(f"{plan.name}: result at the last epoch, %", head, rows, text_columns=left)


def _group_numbers(plan: Plan, states: Sequence[State]) -> dict[str, str]:
    """The group of each trial that is not finished and does not go by itself."""
    todo = [state.trial for state in states if state.status != "finished"]
    several = [group for group in trained_together(todo, plan.together) if len(group) > 1]
    return {
        trial.key: f"group {number}, {len(group)} trials"
        for number, group in enumerate(several, start=1)
        for trial in group
    }


def duration(seconds: float) -> str:
    """In the two largest units that matter: 45 s, 8 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _ending(state: State) -> str:
    if state.record is None:
        return f"failed ({state.error})"
    return f"{result_of(state.record):.2f} % in {duration(state.seconds or 0)}"


def result_of(record: RunRecord) -> float:
    """The run's figure, in percent; not a number when it has none."""
    return float("nan") if record.result is None else record.result


def records_of(states: Sequence[State]) -> list[RunRecord]:
    """The finished runs of a sweep."""
    return [state.record for state in states if state.record is not None]
