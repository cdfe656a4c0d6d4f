"""Several runs of one recipe trained simultaneously: each with its own data, weights and order, their steps as one.

They differ in the seed, and may differ in what makes their data (the skew). Every run goes through its stages as it
would alone. Where a stage trains it waits until the others have come as far; then their trainings are done together
(`training.stacked`) where they stack, and one after another where they do not.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from tqdm.auto import tqdm

from debias.data.split import Task
from debias.errors import UserError
from debias.training.artifacts import Checkpoint
from debias.training.job import Fitted, Job
from debias.training.joint import Joint
from debias.training.loop import Loop
from debias.training.machine import prepare_cpu
from debias.training.stacked import Stacked, Unstackable
from debias.training.stage import Context, Settings, Stage
from debias.training.store import Store
from debias.training.walk import Walk


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
    _resume(loops)
    found: dict[int, Fitted | UserError] = {}
    for some in _as_before(loops):
        group = _Group(some)
        if len(some) > 1:
            try:
                group.run()
            except Unstackable as why:
                say(f"{some[0].ctx.stage}: the runs are trained one after another: {why}")
        found |= zip(map(id, some), group.results(), strict=True)
    return [found[id(loop)] for loop in loops]


def _resume(loops: Sequence[Loop]) -> None:
    """Resume each from its checkpoint; those that were trained together from one epoch.

    All of a group keep their new checkpoints beside the old ones before any takes the place of the old one. Of a
    process that was killed on the way, either all have a new one, pending or settled, or all have the old one still.
    """
    folders = {_name(loop): loop.ctx.folder for loop in loops}
    pending = {name: moment for name, folder in folders.items() if (moment := _moment(folder.load_pending()))}
    # Read once more below: at most one is held at a time, as they may be large.
    settled = {name: _moment(folder.load_checkpoint()) for name, folder in folders.items()} if pending else {}
    for loop in loops:
        new = pending.get(_name(loop))
        whole = new is not None and all(
            new in (pending.get(other), settled[other]) for other in new[0] if other in folders
        )
        loop.resume(loop.ctx.folder.load_pending() if whole else loop.ctx.folder.load_checkpoint())


def _name(loop: Loop) -> str:
    return loop.ctx.folder.path.name


def _moment(state: Checkpoint | None) -> tuple[tuple[str, ...], int] | None:
    """What checkpoints that a group wrote at one epoch have in common."""
    return None if state is None else (tuple(state.group), len(state.history))


def _as_before(loops: Sequence[Loop]) -> list[list[Loop]]:
    """The loops in the groups in which they were trained; those that begin are one.

    In another group a seed would have other last digits: products of several are summed in another order.
    """
    groups: dict[object, list[Loop]] = {}
    for loop in loops:
        alone = bool(loop.done) and not loop.group
        groups.setdefault(id(loop) if alone else (loop.group, loop.done), []).append(loop)
    return list(groups.values())


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
        self._epochs = loops[0].job.epochs
        self._found: dict[int, Fitted] = {}

    def results(self) -> list[Fitted | UserError]:
        """Of all; what has not been trained to its end yet is, by itself."""
        return [self._found.get(id(loop)) or _run(loop) for loop in self._loops]

    def run(self) -> None:
        """Train them simultaneously as long as there are several."""
        for loop in list(self._alive):
            if loop.ends_here():
                self._end(loop)
        with self._loops[0].bar(f"{self._loops[0].ctx.stage}, {len(self._loops)} runs") as bar:
            while len(self._alive) > 1 and self._alive[0].done < self._epochs:
                self._train_until_one_leaves(bar)
        for loop in self._alive:
            if loop.done == self._epochs:
                loop.measure_mean()
                self._found[id(loop)] = loop.fitted()

    def _train_until_one_leaves(self, bar: "tqdm[Any]") -> None:
        """Train those that are left to the end, or until one asks to stop."""
        joint = self._stack()
        present = list(self._alive)
        while len(self._alive) == len(present) and self._alive[0].done < self._epochs:
            means, seconds = joint.train()
            for loop, own in zip(present, means, strict=True):
                loop.measure(own, seconds)
            bar.set_postfix_str(self._headline(), refresh=False)
            bar.update()
            for loop in present:
                if loop.wants_to_stop():
                    self._end(loop)
            left = len(self._alive) < len(present)
            # At the end as well: who is killed while results are stored one by one has all of them still.
            if left or present[0].done == self._epochs or any(loop.checkpoint_due() for loop in present):
                joint.stacked.release()
                self._checkpoint(present)

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

    def _checkpoint(self, present: Sequence[Loop]) -> None:
        """Of all or of none (`_resume`)."""
        names = [_name(loop) for loop in present]
        for loop in present:
            loop.checkpoint(names)
        for loop in present:
            loop.ctx.folder.settle_pending()

    def _end(self, loop: Loop) -> None:
        self._found[id(loop)] = loop.fitted(stopped=True)
        self._alive.remove(loop)

    def _headline(self) -> str:
        return f"{self._alive[0].headline()} (the first)"
