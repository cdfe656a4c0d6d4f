"""Runs one trial, or trains a group of them, in the process that calls it, at most one at a time on all machines that
share the store."""

import contextlib
import functools
import gc
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from debias.commands import experiment as program
from debias.sweeps.finished import finished_runs
from debias.sweeps.plan import Trial
from debias.sweeps.searching.pruning import Pruned, SearchTrial, reporting_to
from debias.sweeps.together import train_group
from debias.tracking.folders import RunRecord

# Makes one run of the words after `with`; what it raises is the run's failure.
Runner = Callable[[Sequence[str]], object]


@dataclass(frozen=True)
class Assignment:
    """A trial that is given to a worker, with all that it has to know; or a group of trials to be trained together.

    wait : whether to wait for another process that is at this trial, or to return immediately
    search_trial : the trial of a search that it is, which may be pruned
    n_seeds : how many trials of the sweep it is, all trained simultaneously
    group : trials to be trained, and not more: each of them comes later, by itself, and finds its stages in the store
    """

    trial: Trial
    store: Path
    record_file: Path | None = None
    wait: bool = False
    search_trial: SearchTrial | None = None
    n_seeds: int = 1
    group: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How an assignment ended: finished, trained, failed, pruned, elsewhere or lost.

    `trained`: of a group, also where that went wrong; `pruned`: ended by a search; `elsewhere`: another process is
    at it; `lost`: the worker died.
    """

    status: str
    record: RunRecord | None = None
    seconds: float | None = None
    error: str = ""


def work(assignment: Assignment, run: Runner) -> Ending:
    """Run a trial unless it is finished, here or by another process in the meantime."""
    if assignment.group:
        return _train(assignment)
    trial = assignment.trial
    # The system lets go of the lock of a process that dies.
    lock = FileLock(assignment.store / "sweeps" / f"{trial.key}.lock")
    try:
        lock.acquire(timeout=-1 if assignment.wait else 0)
    except Timeout:
        return Ending("elsewhere")
    try:
        found = _found(assignment)
        if found is not None:
            return Ending("finished", found)
        started, why = time.monotonic(), "the run left no figures"
        try:
            with reporting_to(assignment.search_trial):
                run(trial.words)
        except Pruned:
            return Ending("pruned", None, time.monotonic() - started)
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            gc.collect()
        seconds = time.monotonic() - started
        # Also where another seed that was trained with it has failed.
        found = _found(assignment)
        if found is None:
            return Ending("failed", None, seconds, why)
        return Ending("finished", found, seconds)
    finally:
        lock.release()


def _train(assignment: Assignment) -> Ending:
    started, why = time.monotonic(), ""
    try:
        train_group(assignment.group, assignment.store, assignment.record_file)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        gc.collect()
    return Ending("trained", None, time.monotonic() - started, why)


def _found(assignment: Assignment) -> RunRecord | None:
    return finished_runs(assignment.store, assignment.record_file).get(assignment.trial.key)


def run_trial(words: Sequence[str]) -> None:
    """The `Runner` of the program itself. A run's own tables are in its folder; here they are not printed."""
    with contextlib.redirect_stdout(io.StringIO()):
        program.run_words(_experiment(), ["train", "with", *words])


@functools.cache
def _experiment() -> program.DebiasExperiment:
    # Once a process: it takes longer than what else a trial costs beside its run.
    return program.build()
