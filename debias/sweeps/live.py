"""A table of a running sweep, in the terminal: what is running, and what has ended lately."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from debias.redaction import redact
from debias.sweeps.drive import Clock, duration, result_of
from debias.sweeps.engines.base import Engine
from debias.sweeps.work import Assignment, Ending

# Rows of each kind that are shown; the others are counted.
MOST = {"running": 16, "failed": 5, "pruned": 5, "finished": 5}
STYLES = {"running": "cyan", "failed": "red", "pruned": "yellow", "finished": "green"}
# As rows say how a trial ended; of the others it is not yet known.
ENDS = {"finished": "finished", "failed": "failed", "lost": "failed", "pruned": "pruned"}


@dataclass
class _Row:
    label: str
    n_seeds: int = 1
    status: str = "running"
    result: str = ""
    error: str = ""
    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)


class LiveTable:
    """An engine whose trials are seen by a table while it runs them.

    total : trials there are to run, for an estimate of when they end; None where nobody knows
    """

    def __init__(self, engine: Engine, total: int | None = None) -> None:
        self._engine, self._total = engine, total
        self._rows: dict[str, _Row] = {}
        self._clock: Clock | None = None
        # The table is drawn by a thread of its own.
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """Those of the engine."""
        return self._engine.slots

    def submit(self, assignment: Assignment) -> None:
        """Pass it on."""
        self._engine.submit(assignment)
        if self._clock is None and self._total is not None:
            self._clock = Clock(self._total, self._engine.slots)
        with self._lock:
            self._rows[assignment.trial.key] = _Row(assignment.trial.label, assignment.n_seeds)

    def wait(self) -> tuple[Assignment, Ending]:
        """Pass on what the engine says."""
        assignment, ending = self._engine.wait()
        with self._lock:
            # In the order in which they end. A trial that is lost or elsewhere is seen again when it is tried again.
            row = self._rows.pop(assignment.trial.key, None) or _Row(assignment.trial.label, assignment.n_seeds)
            if assignment.group:
                # None of its trials has ended, whatever became of it.
                if self._clock is not None:
                    self._clock.trained(assignment, ending)
                return assignment, ending
            if ending.status in ENDS:
                row.status = ENDS[ending.status]
                row.result = "" if ending.record is None else f"{result_of(ending.record):.2f}"
                seconds = ending.seconds
                if self._clock is not None and ending.status != "lost":
                    seconds = self._clock.with_share(assignment, ending).seconds
                row.seconds, row.error = seconds, redact(ending.error)
                self._rows[assignment.trial.key] = row
            if ending.status in ("finished", "failed", "pruned") and self._clock is not None:
                for _ in range(assignment.n_seeds):
                    self._clock.took(None if row.seconds is None else row.seconds / assignment.n_seeds)
        return assignment, ending

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def table(self) -> Group:
        """The rows of each kind, and below them how many there are and when the last will be."""
        with self._lock:
            rows = list(self._rows.values())
        table = Table("trial", "status", "%", "time", "error", expand=False)
        kinds = {status: [row for row in rows if row.status == status] for status in MOST}
        for status, some in kinds.items():
            for row in some[-MOST[status] :]:
                seconds = time.monotonic() - row.started if status == "running" else row.seconds
                took = "" if seconds is None else duration(seconds)
                # As text: brackets in a label are not markup.
                cells = [Text(row.label), Text(status, STYLES[status]), Text(row.result), Text(took), Text(row.error)]
                table.add_row(*cells)
        numbers = {status: sum(row.n_seeds for row in some) for status, some in kinds.items()}
        # Grids prune nothing.
        counts = [f"{number} {status}" for status, number in numbers.items() if number or status != "pruned"]
        left = ""
        if self._clock is not None:
            counts.append(f"{max(0, self._clock.total - sum(numbers.values()))} waiting")
            left = self._clock.left()
        return Group(table, Text(", ".join(counts) + left))


@contextlib.contextmanager
def live_table(engine: Engine, total: int | None) -> Iterator[tuple[Engine, Callable[[str], None]]]:
    """The engine with its table on standard error, and what says lines above the table.

    The lines that the table has in itself are left out; with no `total` the table does not have all of them.
    """
    seen = LiveTable(engine, total)
    console = Console(file=sys.__stderr__)
    with Live(
        console=console, get_renderable=seen.table, refresh_per_second=2, transient=True,
        redirect_stdout=False, redirect_stderr=False,
    ):  # fmt: skip

        def above(line: str) -> None:
            if total is None or not line.startswith("["):
                console.print(Text(redact(line)))

        yield seen, above
