"""Imported by the process from which workers start, and by no other: who kills a sweep sees no traceback of it.

A worker that has been asked for reads from the sweep what it is to do. Where the sweep is killed at that moment, Python
would answer with a traceback of its own in a terminal in which another command may be running by then.
"""

import sys
from types import TracebackType


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, EOFError | OSError):
        print(f"a worker has not started, as its sweep is gone ({kind.__name__})", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _one_line
