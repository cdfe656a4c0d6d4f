"""One trial after another in this process: nothing to install, nothing to start."""

from collections import deque

from debias.sweeps.work import Assignment, Ending, Runner, run_trial, work


class Here:
    """The engine of a sweep that asks for no other.

    run : makes a run of the words after `with`
    """

    slots = 1

    def __init__(self, run: Runner = run_trial) -> None:
        self._run = run
        self._taken: deque[Assignment] = deque()

    def submit(self, assignment: Assignment) -> None:
        """Keep it until it is waited for."""
        self._taken.append(assignment)

    def wait(self) -> tuple[Assignment, Ending]:
        """Run it."""
        assignment = self._taken.popleft()
        return assignment, work(assignment, self._run)

    def close(self) -> None:
        """Nothing is left running."""
