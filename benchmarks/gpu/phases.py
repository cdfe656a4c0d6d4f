"""The phases of a call in order of value, and each as a process of its own with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.gpu import checks, timing, training
from benchmarks.gpu.record import Call
from benchmarks.gpu.sides import BAD_FORK, Side, kill_group, start

LEAST = 12.0  # seconds with which a phase is still begun
GRACE = 4.0  # seconds after its limit until a phase is killed


@dataclass(frozen=True)
class Phase:
    """What is run, with the call and its seconds, until it says whether all its cases are done; and its limit."""

    run: Callable[[Call, float], bool]
    seconds: float


PHASES = {
    "machine": Phase(checks.machine, 30),
    "correct": Phase(checks.correct, 75),
    "repeat": Phase(checks.repeat, 40),
    "speed": Phase(timing.speed, 80),
    "graphs": Phase(timing.graphs, 20),
    "table1": Phase(training.table1, 220),
    "others": Phase(training.others, 600),
}


def run_phases(call: Call, names: Sequence[str], seconds: float) -> bool:
    """Run the phases that are not finished, each within its limit; then those that ran out of it, while there is time.

    Returns whether all are finished.
    """
    late: list[str] = []
    for name in names:
        if not call.record.finished(name) and run_phase(call, name, seconds, PHASES[name].seconds) is None:
            late.append(name)
    for name in late:
        run_phase(call, name, seconds, seconds)
    return all(call.record.finished(name) for name in names)


def run_phase(call: Call, name: str, seconds: float, limit: float) -> bool | None:
    """Run a phase for at most `limit` of the call's seconds; whether it is done, None when its time was over."""
    limit = min(limit, seconds - (time.monotonic() - call.began)) - GRACE
    if limit < LEAST - GRACE:
        call.record.note(name, done=False, skipped="no time left")
        return False
    started = time.monotonic()
    for method in ("fork", "spawn"):
        process = start(Side(name, _phase, (call, name, limit), call.out / "log.txt"), method=method, own_group=True)
        try:
            process.join(limit + GRACE)
            late = process.is_alive()
        finally:
            # Also after an interrupt, and also what a phase that has ended left behind.
            kill_group(process)
        if process.exitcode != BAD_FORK:
            break
    done = not late and process.exitcode == 0
    status = "out of time" if late else process.exitcode
    call.record.note(name, done=done, status=status, seconds=round(time.monotonic() - started, 1))
    # A phase that watches its limit itself ends a little before it.
    return None if late or time.monotonic() - started >= 0.85 * limit else done


def _phase(call: Call, name: str, limit: float) -> int:
    return 0 if PHASES[name].run(call, limit) else 1
