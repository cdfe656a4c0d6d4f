"""Several runs of one recipe trained simultaneously: each with its own data, weights and order, their steps as one.

They differ in the seed, and may differ in what makes their data (the skew). Every run goes through its stages as it
would alone. Where a stage trains it waits until the others have come as far; then their trainings are done together
(`training.stacked`) where they stack, and one after another where they do not.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import torch

from data.split import Task
from errors import UserError
from training.job import Fitted, Job
from training.joint import Joint
from training.loop import Loop
from training.machine import prepare_cpu
from training.stacked import Stacked, Unstackable
from training.stage import Context, Settings, Stage
from training.store import Store
from training.walk import Walk


def run_replicas(
    stages: Sequence[Stage],
    tasks: Sequence[Task],
    settings: Sequence[Settings],
    device: torch.device,
    store: Store,
    *,
    say: Callable[[str], None] = print,
    progress: bool = True,
    names: Sequence[str] | None = None,
) -> list[Exception | None]:
    """Have every stage of every run finished in the store, where the runs themselves find them.

    Parameters
    ----------
    stages, device, store, say, progress
        As of `training.walk.run_stages`.
    tasks, settings
        Data and settings of each run; no two of one seed and the same data, which would wait for each other.
    names
        What lines call each; None: by its seed.

    Returns
    -------
    What went wrong with each run, None where nothing did; one that fails does not stop the others.
    """
    meeting = Meeting(say)
    called = [f"seed {own['seed']}" for own in settings] if names is None else names
    walks = [
        Walk(
            stages, task, own, device, store,
            say=partial(_say_of, say, name), progress=progress, together=meeting,
        )
        for task, own, name in zip(tasks, settings, called, strict=True)
    ]  # fmt: skip
    failures: list[Exception | None] = [None] * len(walks)
    for stage in stages:
        alive = [number for number, failure in enumerate(failures) if failure is None]
        found = meeting.run([partial(walks[number].advance, stage) for number in alive])
        for number, failure in zip(alive, found, strict=True):
            failures[number] = failure
            if failure is not None:
                say(f"{called[number]}: {stage.name} failed: {failure}")
    return failures


def _say_of(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


class Meeting:
    """Runs functions side by side, one at a time, and brings together those that have come to `fit`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._here = threading.local()

    def run(self, functions: Sequence[Callable[[], None]]) -> list[Exception | None]:
        """Call all of them; what each raised."""
        threads = torch.get_num_threads()
        seats = [_Seat(partial(self._call, function, threads)) for function in functions]
        for seat in seats:
            seat.function = partial(self._sit, seat, seat.function)
        try:
            for seat in seats:
                seat.go_on()
            while waiting := [seat for seat in seats if seat.job is not None]:
                for seat, fitted in zip(
                    waiting, fit_together([seat.take() for seat in waiting], self._say), strict=True
                ):
                    seat.answer = fitted
                for seat in waiting:
                    seat.go_on()
        except BaseException:
            # Those that wait let go of their locks.
            for seat in seats:
                seat.leave()
            raise
        return [seat.failure for seat in seats]

    def fit(self, job: Job, ctx: Context) -> Fitted:
        """Called by a function that is being run: waits until all of them have called it, or have ended."""
        seat: _Seat = self._here.seat
        return seat.ask(job, ctx)

    def _sit(self, seat: "_Seat", function: Callable[[], None]) -> None:
        self._here.seat = seat
        function()

    @staticmethod
    def _call(function: Callable[[], None], threads: int) -> None:
        # Both are a thread's own.
        prepare_cpu(threads)
        function()


class _Left(BaseException):
    """Raised in a function whose meeting has come to an early end."""


class _Seat:
    """A function in a thread of its own, that runs only while its meeting waits for it."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.job: tuple[Job, Context] | None = None
        self.answer: Fitted | UserError | None = None
        self.failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._wake, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._left = False

    def go_on(self) -> None:
        """Let it run until it asks or ends."""
        if self._thread is None:
            # A program that is interrupted does not wait for it.
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._wake.release()
        self._paused.acquire()

    def ask(self, job: Job, ctx: Context) -> Fitted:
        """In its own thread: wait for the answer."""
        self.job = (job, ctx)
        self._paused.release()
        self._wake.acquire()
        if self._left or self.answer is None:
            raise _Left
        if isinstance(self.answer, UserError):
            raise self.answer
        return self.answer

    def take(self) -> tuple[Job, Context]:
        """What it waits for."""
        assert self.job is not None
        job, self.job = self.job, None
        return job

    def leave(self) -> None:
        """Have it end where it waits."""
        self._left = True
        if self._thread is not None and self._thread.is_alive():
            self._wake.release()
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self.function()
        except _Left:
            pass
        except Exception as error:
            self.failure = error
        finally:
            self._paused.release()


def fit_together(requests: Sequence[tuple[Job, Context]], say: Callable[[str], None]) -> list[Fitted | UserError]:
    """`fit.fit` of several jobs of one stage, together where they stack, else one after another, with a line why."""
    loops = [Loop(job, ctx) for job, ctx in requests]
    for loop in loops:
        loop.resume()
    if len(loops) == 1:
        return [_run(loops[0])]
    group = _Group(loops)
    try:
        group.run()
    except Unstackable as why:
        say(f"{loops[0].ctx.stage}: the runs are trained one after another: {why}")
    return group.results()


def _run(loop: Loop) -> Fitted | UserError:
    """Train by itself; what is wrong with it is its own, and leaves the others."""
    try:
        return loop.run()
    except UserError as error:
        return error


class _Group:
    """The loops of several runs; each gives the result it would have by itself."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops
        self._alive = list(loops)
        self._found: dict[int, Fitted] = {}

    def results(self) -> list[Fitted | UserError]:
        """Of all; what has not been trained to its end yet is, by itself."""
        return [self._found.get(id(loop)) or _run(loop) for loop in self._loops]

    def run(self) -> None:
        """Train them simultaneously as long as there are several."""
        self._catch_up()
        epochs = self._loops[0].job.epochs
        with self._loops[0].bar(f"{self._loops[0].ctx.stage}, {len(self._loops)} runs") as bar:
            while len(self._alive) > 1:
                joint = self._stack()
                asked_to_stop = False
                while not asked_to_stop and self._alive[0].done < epochs:
                    means, seconds = joint.train()
                    for loop, own in zip(self._alive, means, strict=True):
                        loop.measure(own, seconds)
                    bar.set_postfix_str(self._headline(), refresh=False)
                    bar.update()
                    asked_to_stop = self._let_go(joint.stacked)
                    self._checkpoint_if_due(joint.stacked, asked_to_stop)
                if not asked_to_stop:
                    for loop in self._alive:
                        loop.measure_mean()
                        self._found[id(loop)] = loop.fitted()
                    return

    def _catch_up(self) -> None:
        """Who was interrupted at an earlier epoch than others comes as far as they are."""
        furthest = max(loop.done for loop in self._loops)
        for loop in self._loops:
            while loop.done < furthest and id(loop) not in self._found:
                loop.measure(*loop.train())
                self._end_if_asked(loop)

    def _stack(self) -> "Joint":
        for loop in self._alive:
            loop.replicas = max(loop.replicas, len(self._alive))
        firsts = [next(loop.job.batches.epoch(loop.begin())) for loop in self._alive]
        try:
            found = Stacked([loop.job for loop in self._alive], firsts)
        except Unstackable:
            for loop in self._alive:
                loop.replicas = 1
            raise
        return Joint(self._alive, found)

    def _let_go(self, stacked: Stacked) -> bool:
        """Whether some have asked to stop; the others' optimisers then have their states."""
        before = len(self._alive)
        for loop in list(self._alive):
            self._end_if_asked(loop)
        if len(self._alive) < before:
            stacked.release()
            return True
        return False

    def _checkpoint_if_due(self, stacked: Stacked, released: bool) -> None:
        if any(loop.checkpoint_due() for loop in self._alive):
            if not released:
                stacked.release()
            for loop in self._alive:
                loop.checkpoint()

    def _end_if_asked(self, loop: Loop) -> None:
        if loop.wants_to_stop():
            self._found[id(loop)] = loop.fitted(stopped=True)
            self._alive.remove(loop)

    def _headline(self) -> str:
        return f"{self._alive[0].headline()} (the first)"
