"""Processes of `sweep.py --jobs` that are killed, at whatever moment: a line, and no traceback."""

import os
import signal
import subprocess
import sys
from multiprocessing import forkserver, resource_tracker

import pytest

from debias.errors import UserError
from debias.sweeps.engines.base import endings
from debias.sweeps.engines.processes import Processes
from debias.sweeps.plan import Trial
from debias.sweeps.work import Assignment
from debias.training.code import ROOT


def marks(words):
    """What a trial does here: it says that it was there, and leaves no figures; with `dies`, the first time it dies."""
    name, _, how = words[0].partition("=")
    first = not os.path.exists(name)  # noqa: PTH110
    with open(name, "a") as file:  # noqa: PTH123
        file.write("x")
    if how == "dies" and first:
        os.kill(os.getpid(), signal.SIGKILL)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def run(tmp_path, capfd):
    """run(engine, names) -> lines; each name is a trial that ends without figures, and nothing is a traceback."""
    (tmp_path / "sweeps").mkdir()

    def run(engine, how=""):
        lines = []
        trials = [Trial((f"{tmp_path / name}={how}",), name, name) for name in ("a", "b")]
        try:
            found = list(endings(engine, [Assignment(trial, tmp_path) for trial in trials], lines.append))
        finally:
            engine.close()
        assert {ending.error for _, ending in found} == {"the run left no figures"} and len(found) == 2
        assert all((tmp_path / name).exists() for name in ("a", "b"))
        assert "Traceback" not in (err := capfd.readouterr().err) and "EOFError" not in err
        return lines

    return run


def test_workers_are_killed(run):
    lines = run(Processes(2, marks), "dies")
    assert sorted(lines) == [f"{name}: its worker died (killed by signal 9); trying again" for name in ("a", "b")]


@pytest.mark.parametrize("victim", ["where workers start from", "tracker of resources"])
def test_what_is_behind_workers_is_killed_between_trials(run, victim):
    engine = Processes(1, marks)
    start = engine._start

    killed = []

    def killing():
        worker = start()
        if not killed:
            behind = forkserver._forkserver._forkserver_pid
            killed.append(behind if victim.startswith("where") else resource_tracker._resource_tracker._pid)
            kill(killed[0])
        return worker

    engine._start = killing
    lines = run(engine)
    # A worker whose end nobody could tell counts as dead; while it lives it keeps its trial from others.
    assert any("its worker died" in line for line in lines) == victim.startswith("where")


def test_where_no_worker_starts(tmp_path, monkeypatch):
    """It is tried again, and is one line in the end."""
    engine = Processes(1, marks)
    asked = []

    def lost(fds):
        asked.append(1)
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(forkserver, "connect_to_new_process", lost)
    with pytest.raises(UserError, match="no worker could be started in 3 attempts"):
        engine.submit(Assignment(Trial((f"{tmp_path / 'a'}=",), "a", "a"), tmp_path))
    assert len(asked) == 3 and engine._workers == []
    engine.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from multiprocessing import forkserver
from debias.sweeps.engines.processes import Processes
from debias.sweeps.plan import Trial
from debias.sweeps.work import Assignment

connect = forkserver._forkserver.connect_to_new_process

def killed(fds):
    connect(fds)
    os.kill(os.getpid(), signal.SIGKILL)

forkserver.connect_to_new_process = killed
Processes(1).submit(Assignment(Trial(("seed=1",), "a", "a"), Path(sys.argv[1])))
"""


def test_a_sweep_that_is_killed_while_a_worker_starts(tmp_path):
    """The worker that was asked for has nobody to tell it what to do; that is its one line."""
    child = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL
    lines = [line for line in child.stderr.splitlines() if "Warning" not in line and "import pkg_resources" not in line]
    assert lines == ["a worker has not started, as its sweep is gone (EOFError)"], child.stderr
