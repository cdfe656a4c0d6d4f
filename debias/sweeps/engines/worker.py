"""What a process does that runs trials for a sweep in another process: its surroundings, its output, its end."""

import debias.waiting  # noqa: F401 - before torch

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from debias.sweeps.work import Assignment, Ending, Runner, work
from debias.training.machine import prepare_cpu

# What a run reads from the environment: where source files are, and where runs are recorded as well.
VARIABLES = ("DATA_DIR", "MONGO_URL")
# Of a process that has run nothing yet; a trial may set another number.
_threads: int | None = None


def run_assignment(assignment: Assignment, run: Runner, threads: int | None = None) -> Ending:
    """Run a trial or train a group; what that prints is in `log_file` afterwards, unless all went well.

    threads : of a trial that does not set its own; None leaves it to torch
    """
    log = log_file(assignment)
    if assignment.group:
        _default_threads(threads)
        with _output_to(log):
            ending = work(assignment, run)
        if not ending.error:
            log.unlink(missing_ok=True)
        return ending

    def logged(words: Sequence[str]) -> None:
        _default_threads(threads)
        with _output_to(log):
            run(words)

    # Where another process is at the trial, that one's log stays as it is.
    ending = work(assignment, logged)
    if ending.status == "finished":
        log.unlink(missing_ok=True)
    return ending


def log_file(assignment: Assignment) -> Path:
    """Where to look when a trial failed or its process died."""
    return assignment.store / "sweeps" / f"{assignment.trial.key}.log"


def serve(pipe: Connection, run: Runner, threads: int) -> None:
    """Run what comes through `pipe` until the other end is closed; SIGTERM stops the trial that is running."""
    # Ctrl-C goes to all processes of a terminal: the sweep is the one that stops this one, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop_at(signal.SIGTERM)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        while True:
            pipe.send(run_assignment(pipe.recv(), run, threads))


def portable() -> Callable[[str, str, bytes], Any]:
    """A function for processes that cannot import this code yet: being local, it is pickled by value.

    It takes the folder of the code, the working folder and a pickled function with its arguments, and calls that there.
    The result is an `Ending`, or a text that says why it could not begin.
    """

    def run_packed(code: str, folder: str, packed: bytes) -> Any:
        import os
        import pickle
        import platform
        import sys
        from pathlib import Path

        for path in (code, folder):
            if not Path(path).is_dir():
                return f"{platform.node()} has no folder {path}: all machines of a sweep share their file system"
        os.chdir(folder)
        if code not in sys.path:
            sys.path.insert(0, code)
        function, *arguments = pickle.loads(packed)
        return function(*arguments)

    return run_packed


def run_elsewhere(assignment: Assignment, run: Runner, variables: Mapping[str, str | None]) -> Ending:
    """Run a trial with these variables in the environment; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return run_assignment(assignment, run)


def run_job(assignment: Assignment, run: Runner, variables: Mapping[str, str | None]) -> Ending:
    """Run a trial in a process of its own, which signals tell that its time is over."""
    _stop_at(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    try:
        return run_elsewhere(assignment, run, variables)
    except KeyboardInterrupt:
        return Ending("lost", error="its job was stopped: out of time, preempted or cancelled")


def _default_threads(threads: int | None) -> None:
    global _threads
    if _threads is None:
        _threads = threads or torch.get_num_threads()
    prepare_cpu(_threads)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Standard output and error, also of what is not Python, go to a file: the terminal is the sweep's."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with path.open("wb") as file:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _stop_at(*signals: int) -> None:
    def stop(signum: int, frame: FrameType | None) -> None:
        # Sacred takes the run down as interrupted. Once: a second signal must not interrupt that.
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, stop)


def _die_with_parent() -> None:
    """A process whose sweep was killed would train on, and keep its trial from others."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
