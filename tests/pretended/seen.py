"""What a pretended device has seen: refusals, waits of the host, kernel launches."""

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tests.pretended.marks import WrongDevice

ROOT = Path(__file__).resolve().parents[2]
_OWN = str(Path(__file__).resolve().parent)


class Event(NamedTuple):
    """One thing that was seen.

    `kind` is `refused` (a GPU would raise), `wait` (the host waits for a value), `copy in` (from memory that is not
    page-locked, for which it waits too) or `scalar` (a tensor of one number on the CPU is read into an operation).
    `phase` is `other` outside of steps; inside see `steps.watch`.
    """

    kind: str
    phase: str
    what: str
    where: str


class _PerThread(threading.local):
    """Where a thread is; a new one starts outside of everything."""

    # The mark of what C++ makes on its way: a missing gradient's zeros, a number as a tensor.
    pending: bool = False
    # The graph that is being captured, and the stream.
    capture: Any = None
    stream: Any = None


class Seen:
    """What was seen; with `strict`, what a GPU would refuse raises WrongDevice."""

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
        self.stage, self.phase = "", "other"
        self.events: Counter[Event] = Counter()
        self.launches: Counter[tuple[str, str]] = Counter()  # by stage and phase
        self.steps: Counter[tuple[str, str]] = Counter()
        self.captures: Counter[str] = Counter()  # by stage
        self.replays: Counter[str] = Counter()
        self.thread = _PerThread()

    def note(self, kind: str, what: str) -> None:
        """Something happens; inside a capture only numbers may be read, which the graph keeps as they are."""
        if self.thread.capture is not None and kind != "scalar":
            self.refuse(f"{what} in a captured step")
        self.events[Event(kind, self.phase, what, _where())] += 1

    def refuse(self, what: str) -> None:
        """A GPU would raise here."""
        place = _where()
        self.events[Event("refused", self.phase, what, place)] += 1
        if self.strict:
            raise WrongDevice(f"{what} ({place})")

    def launch(self, count: int = 1) -> None:
        """So many kernels are started."""
        if self.thread.capture is None:
            self.launches[self.stage, self.phase] += count

    def of(self, kind: str, phase: str | None = None) -> list[Event]:
        """The different events of a kind."""
        return [event for event in self.events if event.kind == kind and phase in (None, event.phase)]

    def per_step(self, stage: str, phase: str = "train") -> float:
        """Mean of a stage's launches a step."""
        return self.launches[stage, phase] / self.steps[stage, phase]


def _where() -> str:
    """The innermost lines of the project on the stack, without the pretended device's own."""
    frame: FrameType | None = sys._getframe(2)
    found: list[str] = []
    while frame is not None and len(found) < 3:
        name = frame.f_code.co_filename
        path = Path(name)
        if (
            name.startswith(str(ROOT))
            and "site-packages" not in path.parts
            and (not name.startswith(_OWN) or path.name.startswith("test_"))
        ):
            found.append(f"{path.relative_to(ROOT)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found) or "?"
