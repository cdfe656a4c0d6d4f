"""Threads that wait for each other sleep while other programs want their cores, and spin while nobody does.

A thread that spins takes its core from the thread it waits for as soon as there are more threads than cores, and two
threads become many times slower than one. One that sleeps is woken late, which halves the speed of small networks when
nothing else runs. GNU's OpenMP decides again at every wait, by its own threads alone: when it has more of them than
there are cores, they hardly spin. So while others are busy, idle threads are added to its count. Which thread does
which part of an operation stays the same, and so does every number.
"""

from debias.waiting import ours

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

PERIOD = 0.5  # seconds between looks at the machine
# Cores a team lacks when its threads begin to sleep, and when they spin again.
SLEEP, SPIN = 0.3, 0.15
_STAT = Path("/proc/stat")


class Use(NamedTuple):
    """Seconds so far: of the clock, of all programs on the cores this process may use, and of this process."""

    clock: float
    everyone: float
    own: float


def use_of(stat: str, cores: Iterable[int], clock: float, own: float) -> Use:
    """What the text of /proc/stat says about some cores."""
    names = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return Use(clock, ticks / os.sysconf("SC_CLK_TCK"), own)


def lacking(before: Use, now: Use, cores: int, threads: int) -> float:
    """How many of the cores that so many threads need other programs used between two looks."""
    others = (now.everyone - before.everyone - (now.own - before.own)) / (now.clock - before.clock)
    return threads - (cores - max(0.0, others))


class Team:
    """Idle threads of OpenMP, which wait in a thread of their own until they are let go."""

    def __init__(self, library: ctypes.CDLL, count: int) -> None:
        self._library, self._count = library, count
        self._here, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="idle team", daemon=True)
        self._thread.start()
        self._here.wait()

    def let_go(self) -> None:
        """They end."""
        self._over.set()
        self._thread.join()

    def _hold(self) -> None:
        # What they do is nothing. OpenMP keeps a team for the next operation of its thread, as long as that one lives.
        nothing = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)
        self._library.GOMP_parallel(nothing, None, self._count + 1, 0)
        self._here.set()
        self._over.wait()


def openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP, when it is the one that torch has loaded."""
    with contextlib.suppress(OSError, AttributeError):
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            path = line.split(maxsplit=5)[-1]
            if "libgomp" in Path(path).name:
                library = ctypes.CDLL(path)
                library.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
                return library
    return None


class Watch(threading.Thread):
    """Looks at the machine now and then; `threads` is how many a team has that trains."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        super().__init__(name="watch of the machine", daemon=True)
        self.threads = threads
        self._library = library
        self._team: Team | None = None

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # another kernel
            before = self._look()
            while True:
                time.sleep(PERIOD)
                now = self._look()
                cores = len(os.sched_getaffinity(0))
                self.decide(lacking(before, now, cores, self.threads), cores)
                before = now

    def decide(self, lacking: float, cores: int) -> None:
        """Have threads sleep or spin from now on."""
        if self._team is None and self.threads > 1 and lacking > SLEEP:
            # OpenMP counts the team that trains, and each of these.
            self._team = Team(self._library, max(1, cores - self.threads + 1))
        elif self._team is not None and (self.threads == 1 or lacking < SPIN):
            self._team.let_go()
            self._team = None

    def _look(self) -> Use:
        stat = _STAT.read_text(encoding="utf-8")
        return use_of(stat, os.sched_getaffinity(0), time.monotonic(), time.process_time())


_watch: Watch | None = None
_once = threading.Lock()  # several trainings of one process may begin at the same time


def give_way() -> None:
    """Begin to watch, or continue with another number of threads; nothing where OpenMP or the policy is another one."""
    global _watch
    threads = torch.get_num_threads()
    with _once:
        if _watch is not None:
            _watch.threads = threads
        elif threads > 1 and ours() and (library := openmp()) is not None:
            _watch = Watch(library, threads)
            _watch.start()
