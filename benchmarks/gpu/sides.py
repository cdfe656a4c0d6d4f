"""Processes beside this one: they end with it, and several run side by side until a time is over."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch import cuda

_PR_SET_PDEATHSIG = 1  # of Linux's prctl
BAD_FORK = 97  # exit status: CUDA was touched before the fork


@dataclass
class Side:
    """A function for a process of its own, and the file for what it prints."""

    case: str
    function: Callable[..., int]
    arguments: tuple[Any, ...]
    log: Path


def start(job: Side, *, method: str = "fork", own_group: bool = False) -> BaseProcess:
    """Start a job; its process is killed when this one ends, however that comes about.

    A fork has what is imported here, which takes seconds; it must come before this process uses CUDA or trains.
    `own_group`: it leads a process group, so that all it started can be killed with it.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    context: Any = multiprocessing.get_context(method)
    process: BaseProcess = context.Process(target=_run, args=(job, os.getpid(), own_group))
    process.start()
    return process


def _run(job: Side, parent: int, own_group: bool) -> None:
    if own_group:
        os.setpgid(0, 0)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    handle = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    # Whoever started this process may have replaced them.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)  # type: ignore[misc]
    if cuda._is_in_bad_fork():
        sys.exit(BAD_FORK)
    sys.exit(job.function(*job.arguments))


def kill_group(process: BaseProcess) -> None:
    """Kill a process that leads a group, and all it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL) if process.pid else None
    if process.is_alive():
        process.kill()
    process.join()


def concurrently(
    jobs: Sequence[Side],
    workers: int,
    seconds: float,
    ended: Callable[[Side, int | None, float], None],
    tick: Callable[[Side], None] = lambda job: None,
    every: float = 20.0,
    grace: float = 8.0,
) -> None:
    """Run jobs in order, so many at a time, for so many seconds.

    Parameters
    ----------
    ended
        Called as soon as a job has ended: with its exit status (None: out of time) and its seconds.
    tick
        Called for each running job every so often.
    grace
        Seconds between an interrupt, as by Ctrl-C, and the end of a job that is out of time. Part of `seconds`.
    """
    until = time.monotonic() + seconds - grace
    waiting, running = list(jobs), dict[BaseProcess, tuple[Side, float]]()
    ticked = time.monotonic()
    while (waiting and time.monotonic() < until) or running:
        while waiting and len(running) < workers and time.monotonic() < until:
            job = waiting.pop(0)
            running[start(job)] = (job, time.monotonic())
        multiprocessing.connection.wait([process.sentinel for process in running], timeout=min(1.0, every))
        for process in [process for process in running if not process.is_alive()]:
            job, started = running.pop(process)
            ended(job, process.exitcode, time.monotonic() - started)
        if time.monotonic() - ticked >= every:
            ticked = time.monotonic()
            for job, _ in running.values():
                tick(job)
        if running and time.monotonic() >= until:
            _interrupt(list(running), grace)
            for job, started in running.values():
                ended(job, None, time.monotonic() - started)
            return


def _interrupt(processes: Sequence[BaseProcess], grace: float) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGINT) if process.pid else None
    end = time.monotonic() + grace * 0.75
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def tail(path: Path, characters: int = 600) -> str:
    """The end of a file of text, or nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[-characters:]
    except OSError:
        return ""
