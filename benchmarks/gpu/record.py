"""The record of a call: a line of JSON for each figure, written immediately, and what is finished by it."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "figures.jsonl"


@dataclass(frozen=True)
class Call:
    """What a call was asked for.

    out, work, cache : folders of the record, of stored stages and runs, and of built data sets
    data : folder of the source files; None: as DATA_DIR says
    began : the clock's `time.monotonic()` at its start
    """

    out: Path
    work: Path
    cache: Path
    data: str | None
    device: str
    small: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def record(self) -> Record:
        return Record(self.out, self.work, self.began)


class Record:
    """figures.jsonl in `out`, with a copy in `work`, from which a call continues when `out` has been emptied.

    A row has a phase, the case within it (None: the phase as a whole), whether the case is done, the seconds since the
    call began, and figures by name.
    """

    def __init__(self, out: Path, work: Path, began: float) -> None:
        self._began = began
        self._paths = [folder / FILE for folder in dict.fromkeys((out, work))]
        first, last = self._paths[0], self._paths[-1]
        if last.is_file() and not first.exists():
            shutil.copyfile(last, first)

    def note(self, phase: str, case: str | None = None, *, done: bool = True, **figures: Any) -> None:
        """Add a row."""
        row = {"phase": phase, "case": case, "done": done, "at": round(time.monotonic() - self._began, 1), **figures}
        line = json.dumps(row, default=str)
        for path in self._paths:
            # After a call that was cut while it wrote, a line of its own.
            begun = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" * begun + line + "\n")
        print(line[:400], flush=True)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, oldest first; a line that was cut is left out."""
        if not self._paths[0].is_file():
            return
        for line in self._paths[0].read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "phase" in row:
                yield row

    def finished(self, phase: str, case: str | None = None) -> bool:
        """Whether a case, or a phase as a whole, was done in this call or an earlier one."""
        return any(row["phase"] == phase and row.get("case") == case and row.get("done") for row in self.rows())

    def attempt(self, phase: str, case: str, function: Callable[[], dict[str, Any]]) -> bool:
        """Note the figures that a function gives, unless the case is finished; whether it is now.

        What it raises is noted as the case's failure: the cases after it are still measured, and the next call tries
        this one again.
        """
        if self.finished(phase, case):
            return True
        started = time.monotonic()
        try:
            figures = function()
        except Exception as error:  # of torch, of CUDA, of the program: a figure as well
            traceback.print_exc()
            self.note(phase, case, done=False, failed=f"{type(error).__name__}: {error}"[:400])
            return False
        self.note(phase, case, took=round(time.monotonic() - started, 2), **figures)
        return True
