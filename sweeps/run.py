"""Runs the trials of a sweep one after another, each an ordinary run; what is finished is not run again."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from filelock import FileLock, Timeout

from errors import UserError
from sweeps.plan import Plan, Trial, run_key
from tracking.results.gather import gather
from tracking.results.records import write_records
from tracking.results.tables import Table
from tracking.runs import RunRecord
from vocabulary import FIGURES

# Makes one run of the words after `with`; what it raises is the run's failure.
Runner = Callable[[Sequence[str]], object]


@dataclass
class State:
    """Where a trial stands: finished, failed, waiting, or elsewhere (another process is at it)."""

    trial: Trial
    status: str = "waiting"
    record: RunRecord | None = None
    seconds: float | None = None
    error: str = ""


def states_of(plan: Plan) -> list[State]:
    """What the store knows of each trial: its newest finished run, whoever started it."""
    done: dict[str, RunRecord] = {}
    wanted = {trial.key for trial in plan.trials}
    for record in gather([plan.store], [plan.record] if plan.record is not None and plan.record.exists() else []):
        if not record.finished:
            continue
        try:
            key = run_key(record.config)
        except UserError:
            continue  # settings of another version
        if key in wanted:
            done[key] = record
    return [State(trial, "finished" if trial.key in done else "waiting", done.get(trial.key)) for trial in plan.trials]


def run_sweep(plan: Plan, run: Runner, say: Callable[[str], None]) -> list[State]:
    """Run what is not finished; a trial that fails does not stop the others.

    A trial that another sweep of the same store is running is left to it, and looked at again at the end: when that one
    has died without finishing, its trial is run here.
    """
    prepare_store(plan)
    states = states_of(plan)
    reused = sum(state.status == "finished" for state in states)
    say(f"{plan.name}: {len(states)} trials" + (f", {reused} of them finished before" if reused else ""))
    todo = [state for state in states if state.status != "finished"]
    # Also those that finished just before an earlier sweep was killed.
    _record(plan, records_of(states))
    clock = Clock(len(todo))
    for state in todo:
        attempt(plan, state, run, say, clock, wait=False)
    for state in todo:
        if state.status == "elsewhere":
            say(f"waiting for another process: {state.trial.label}")
            attempt(plan, state, run, say, clock, wait=True)
    return states


def prepare_store(plan: Plan) -> None:
    """Make the folder in which sweeps keep their locks and searches."""
    try:
        (plan.store / "sweeps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"store={plan.store}: cannot be written to ({error.strerror})") from error


def attempt(plan: Plan, state: State, run: Runner, say: Callable[[str], None], clock: "Clock", wait: bool) -> None:
    """Run one trial unless it is finished; leaves its `state` finished, failed or, without `wait`, elsewhere."""
    folder = plan.store / "sweeps"
    # The system lets go of the lock of a process that dies.
    lock = FileLock(folder / f"{state.trial.key}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        state.status = "elsewhere"
        return
    try:
        found = _finished(plan, state.trial)
        if found is None:
            started = time.monotonic()
            say(f"[{clock.number()}] {state.trial.label}")
            try:
                run(state.trial.words)
            except (Exception, SystemExit) as error:
                state.status, state.error = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
            finally:
                gc.collect()
            state.seconds = time.monotonic() - started
            clock.took(state.seconds)
            found = None if state.status == "failed" else _finished(plan, state.trial)
            if found is None and state.status != "failed":
                state.status, state.error = "failed", "the run left no figures"
        if found is not None:
            state.status, state.record = "finished", found
            _record(plan, [found])
        say(f"[{clock.done}/{clock.total}] {state.trial.label}: {_outcome(state)}{clock.left()}")
    finally:
        lock.release()


def _record(plan: Plan, records: Sequence[RunRecord]) -> None:
    # Runs that come from the file itself have no folder.
    new = [record for record in records if record.folder.parent == plan.store]
    if plan.record is not None and new:
        with FileLock(plan.store / "sweeps" / "record.lock"):
            write_records(new, plan.record)


def _finished(plan: Plan, trial: Trial) -> RunRecord | None:
    """Looked up anew: another process may have finished it in the meantime."""
    return next((state.record for state in states_of(replace(plan, trials=(trial,)))), None)


class Clock:
    """How many trials are done, and when the last will be, if all take as long as those so far."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._seconds: list[float] = []

    def number(self) -> str:
        return f"{self.done + 1}/{self.total}"

    def took(self, seconds: float) -> None:
        self.done += 1
        self._seconds.append(seconds)

    def left(self) -> str:
        rest = self.total - self.done
        if not rest or not self._seconds:
            return ""
        seconds = rest * sum(self._seconds) / len(self._seconds)
        end = datetime.now() + timedelta(seconds=seconds)
        return f"; about {duration(seconds)} left, until {end:%a %H:%M}"


def progress_table(plan: Plan, states: Sequence[State]) -> Table:
    """Every trial with its status, its result (%), its seconds and its run folder or its error."""
    rows = [
        [
            state.trial.label,
            state.status,
            "" if state.record is None else f"{_result(state.record):.2f}",
            "" if state.seconds is None else duration(state.seconds),
            state.error if state.record is None else str(state.record.folder),
        ]
        for state in states
    ]
    head = ["trial", "status", "result", "time", "run, or error"]
    return Table(f"{plan.name}: result at the last epoch, %", head, rows, text_columns=[head[0], head[1], head[4]])


def duration(seconds: float) -> str:
    """In the two largest units that matter: 45 s, 8 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _outcome(state: State) -> str:
    if state.record is None:
        return f"failed ({state.error})"
    return f"{_result(state.record):.2f} % in {duration(state.seconds or 0)}"


def _result(record: RunRecord) -> float:
    """The final model's accuracy at its last epoch; the only figure where a run has no such selection."""
    read_out = record.final_read_out
    for figure in FIGURES:
        own = {name: value for name, value in record.summary.items() if name.startswith(f"{read_out}/{figure}/")}
        if own:
            return next((value for name, value in own.items() if "/last" in name), next(iter(own.values())))
    return float("nan")


def records_of(states: Sequence[State]) -> list[RunRecord]:
    """The finished runs of a sweep."""
    return [state.record for state in states if state.record is not None]
