"""Several processes on this machine, each with one trial at a time."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

import torch

from debias.errors import UserError
from debias.sweeps.engines.worker import serve
from debias.sweeps.work import Assignment, Ending, Runner, run_trial

# Until a worker that is told to stop is killed.
PATIENCE = 20
# Attempts at starting one, and seconds before the next: what is killed is still there for a moment, and refuses.
STARTS = 3
PAUSE = 0.5


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    assignment: Assignment | None = None


class Processes:
    """Workers that are started when there is a trial for them, and stay for the next ones.

    slots : how many there are at most
    run : makes a run of the words after `with`; a function of a module
    """

    def __init__(self, slots: int, run: Runner = run_trial) -> None:
        self.slots = slots
        self._run = run
        self._workers: list[_Worker] = []

    def submit(self, assignment: Assignment) -> None:
        """Give it to a worker that has nothing to do, or to a new one."""
        for worker in [worker for worker in self._workers if worker.assignment is None]:
            if worker.process.is_alive():
                break
            self._drop(worker)
        else:
            worker = self._start()
        worker.assignment = assignment
        # One that died this moment is found by `wait`.
        with contextlib.suppress(OSError):
            worker.pipe.send(assignment)

    def wait(self) -> tuple[Assignment, Ending]:
        """The next ending; a worker that died is not replaced before there is a trial for it."""
        while True:
            busy = [worker for worker in self._workers if worker.assignment is not None]
            wait([channel for worker in busy for channel in (worker.pipe, worker.process.sentinel)])
            for worker in busy:
                ending = self._answer(worker)
                if ending is not None and worker.assignment is not None:
                    assignment, worker.assignment = worker.assignment, None
                    return assignment, ending

    def close(self) -> None:
        """Stop all workers; one that is at a trial may take the run down as interrupted first."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _start(self) -> _Worker:
        # Workers come from a process that has only imported what they need, which takes longer than a small run.
        context = multiprocessing.get_context("forkserver")
        # The second is for a program that was started from another folder: there, that process finds no module of ours.
        context.set_forkserver_preload(
            ["debias.main", "torch", "debias.sweeps.engines.worker", "debias.sweeps.engines.quiet"]
        )
        ours, theirs = context.Pipe()
        threads = max(1, min(torch.get_num_threads(), len(os.sched_getaffinity(0)) // self.slots))
        for attempt in range(STARTS):
            time.sleep(PAUSE * attempt)
            process = context.Process(target=serve, args=(theirs, self._run, threads), daemon=True)
            try:
                with _without_interrupts():
                    process.start()
                break
            except (EOFError, ConnectionError):
                # The process from which workers start was killed at this moment: another one takes its place.
                continue
        else:
            ours.close()
            theirs.close()
            raise UserError(
                f"--jobs: no worker could be started in {STARTS} attempts, as processes are killed as soon as they "
                "start; is memory short? The same command goes on where this one ends"
            )
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _answer(self, worker: _Worker) -> Ending | None:
        try:
            # What it sent before it died is still to be read, so the pipe comes first.
            if worker.pipe.poll():
                return worker.pipe.recv()
            if worker.process.is_alive():
                return None
        except (EOFError, OSError):
            worker.process.join(PATIENCE)
        self._drop(worker)
        return Ending("lost", error=_how(worker.process.exitcode))

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started in here do not get Ctrl-C, which would be a traceback while they import."""
    # Starting it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exitcode: int | None) -> str:
    return f"killed by signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit status {exitcode}"
