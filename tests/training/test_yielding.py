"""Threads sleep while others want their cores: what counts as that, and that OpenMP does as it is asked."""

import json
import os
import subprocess
import sys

import pytest

from debias import waiting
from debias.training.yielding import SLEEP, SPIN, Use, lacking, use_of

STAT = """\
cpu  999 999 999 999 999 999 999 999 999 999
cpu0 100 10 20 5000 70 3 2 5 0 0
cpu1 300 0 0 5000 0 0 0 0 0 0
cpu10 7 0 0 0 0 0 0 0 0 0
intr 5 5
"""


def test_use_is_that_of_the_cores_a_process_may_use_without_idle_time() -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert use_of(STAT, {0}, 7.0, 2.0) == Use(7.0, pytest.approx(140 * tick), 2.0)
    assert use_of(STAT, {0, 1}, 7.0, 2.0).everyone == pytest.approx(440 * tick)


@pytest.mark.parametrize(
    ("everyone", "own", "cores", "threads", "expected"),
    [
        (4.0, 4.0, 2, 2, 0.0),  # nobody else
        (4.0, 2.0, 2, 2, 1.0),  # another one uses a core
        (4.0, 2.0, 4, 2, -1.0),  # there are more cores
        (3.99, 4.0, 2, 2, 0.0),  # clocks that tick apart
    ],
)
def test_cores_that_others_use_are_lacking(
    everyone: float, own: float, cores: int, threads: int, expected: float
) -> None:
    assert lacking(Use(10.0, 50.0, 5.0), Use(12.0, 50.0 + everyone, 5.0 + own), cores, threads) == expected


# In a process of its own: OpenMP reads its variables once. A thread that never gives up spinning, unless it is made to.
PROGRAM = f"""
import json, os, torch
from pathlib import Path
from debias.training.yielding import Watch, openmp
def tasks():
    return set(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
values = torch.randn(100_000)
before = tasks()
values.sum()
(helper,) = tasks() - before
def slept():
    lines = Path(f"/proc/self/task/{{helper}}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary")))
def times():
    count = slept()
    for _ in range(100):
        found = values.sum()
        sum(range(20_000))  # longer than a short spin
    return [slept() - count, found.item()]
watch, cores = Watch(openmp(), 2), len(os.sched_getaffinity(0))
def decide(lacks):
    watch.decide(lacks, cores)
    while watch._team is None and len(tasks()) > len(before) + 1:
        pass  # threads of OpenMP end some time after they have been let go
rows = []
for lacks in ({(SLEEP + SPIN) / 2}, {SLEEP * 1.1}, {(SLEEP + SPIN) / 2}, {SPIN / 2}, {SLEEP * 1.1}):
    decide(lacks)
    rows.append(times())
watch.threads = 1
decide(2.0)
print(json.dumps([*rows, times()]))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores: on one, threads always sleep")
def test_threads_sleep_when_cores_are_lacking_and_spin_when_they_are_there() -> None:
    own = {"GOMP_SPINCOUNT": "1000000000000"}
    others = {name: value for name, value in os.environ.items() if name not in waiting.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=others | own, capture_output=True, text=True, check=True, timeout=300
    )
    rows = json.loads(done.stdout)
    # A little is still lacking, or so little that nothing changes; a team of one has nobody to wait for.
    assert [times >= 50 for times, _ in rows] == [False, True, True, False, True, False], rows
    assert len({value for _, value in rows}) == 1, "a number depends on how threads wait"


STARTS = """
import threading, torch
from debias.training.machine import prepare_cpu
for threads in {threads}:
    prepare_cpu(threads)
print([thread.name for thread in threading.enumerate() if "watch" in thread.name], torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("threads", "variables", "watched"),
    [
        ([2], waiting.POLICY, True),
        ([1, 2, 2], waiting.POLICY, True),
        ([1], waiting.POLICY, False),
        ([2], {"OMP_WAIT_POLICY": "PASSIVE"}, False),
    ],
)
def test_the_machine_is_watched_once_for_a_team_whose_person_has_not_chosen(
    threads: list[int], variables: dict[str, str], watched: bool
) -> None:
    others = {name: value for name, value in os.environ.items() if name not in waiting.VARIABLES}
    program = STARTS.format(threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", program], env=others | variables, capture_output=True, text=True, check=True
    )
    expected = ["watch of the machine"] if watched else []
    assert done.stdout.strip() == f"{expected} {threads[-1]}"
