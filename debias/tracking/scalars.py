"""The metrics of a run as TensorBoard scalars and as a CSV file, written while it runs, into its folder."""

import contextlib
import csv
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from debias.errors import UserError


class Log(Protocol):
    """Takes a metric's name, value and epoch."""

    def __call__(self, name: str, value: float, epoch: int) -> None: ...


_LISTENER: ContextVar[Log | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(callback: Log) -> Iterator[None]:
    """Have `callback` told every metric of the runs inside, once it is recorded; what it raises ends the run."""
    token = _LISTENER.set(callback)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell_listener(name: str, value: float, epoch: int) -> None:
    """Pass a metric on to who listens, if anybody does."""
    if (listener := _LISTENER.get()) is not None:
        listener(name, value, epoch)


@contextlib.contextmanager
def also_written(log: Log, folder: Path | None, *, csv_file: bool, tensorboard: bool) -> Iterator[Log]:
    """`log`, which writes <folder>/metrics.csv and the event files <folder>/tensorboard/ as well, when asked to.

    A run that resumes where another one was interrupted has the whole curve again, in its own folder.

    Raises
    ------
    UserError
        TensorBoard's writer is asked for and not installed.
    """
    with contextlib.ExitStack() as stack:
        logs = [log]
        if folder is not None and csv_file:
            handle = stack.enter_context((folder / "metrics.csv").open("w", newline="", encoding="utf-8", buffering=1))
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["metric", "epoch", "value"])
            logs.append(lambda name, value, epoch: writer.writerow([name, epoch, repr(float(value))]))
        if folder is not None and tensorboard:
            events = _summary_writer()(logdir=str(folder / "tensorboard"), write_to_disk=True)
            stack.callback(events.close)
            logs.append(lambda name, value, epoch: events.add_scalar(name, float(value), int(epoch)))

        def every(name: str, value: float, epoch: int) -> None:
            for one in logs:
                one(name, value, epoch)

        yield every


def _summary_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "tensorboard=True needs a package that the environment does not have: pip install tensorboardx"
        ) from error
    return SummaryWriter
