"""What runs the trials of a sweep: one process, several, or a cluster. A new one is a file in this folder."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from debias.sweeps.work import Assignment, Ending

# A trial whose worker dies is given to another one, but one that kills its workers must not go round for ever.
RETRIES = 2


class Engine(Protocol):
    """Takes trials and says how they ended, in whatever order they end.

    slots : how many trials it runs in parallel; asked for only when there is one to run, so an engine may start then
    """

    @property
    def slots(self) -> int: ...

    def submit(self, assignment: Assignment) -> None:
        """Take a trial; never more than `slots` at a time."""

    def wait(self) -> tuple[Assignment, Ending]:
        """Wait until one of the trials it has taken ends; a worker that died gives the status `lost`."""

    def close(self) -> None:
        """Stop what is still running, and let go of workers."""


def endings(
    engine: Engine, assignments: Iterable[Assignment | None], say: Callable[[str], None]
) -> Iterator[tuple[Assignment, Ending]]:
    """Have trials run, `engine.slots` at a time, and yield each with its ending: finished or failed.

    The next trial is asked for only when there is a slot for it; None is none for now. One whose worker died is tried
    again, one that another process is running is left to it and looked at again when all others have been given out.
    """
    source, later = iter(assignments), deque[Assignment]()
    lost: Counter[str] = Counter()
    running = 0
    while True:
        # An engine starts when it is asked for its slots, which is not before there is a trial.
        while not running or running < engine.slots:
            assignment = next(source, None)
            if assignment is None:
                if not later:
                    break
                assignment = later.popleft()
                say(f"waiting for another process: {assignment.trial.label}")
            engine.submit(assignment)
            running += 1
        if not running:
            return
        assignment, ending = engine.wait()
        running -= 1
        trial = assignment.trial
        if ending.status == "elsewhere":
            later.append(replace(assignment, wait=True))
        elif ending.status == "lost" and lost[trial.key] < RETRIES:
            lost[trial.key] += 1
            say(f"{trial.label}: its worker died ({ending.error}); trying again")
            engine.submit(assignment)
            running += 1
        elif ending.status == "lost":
            error = f"its worker died {RETRIES + 1} times ({ending.error})"
            yield assignment, replace(ending, status="failed", error=error)
        else:
            yield assignment, ending
