"""The table of a running sweep."""

import os
import pty
import select
from dataclasses import replace

from rich.console import Console

import debias.sweeps.live as live
from debias.sweeps.engines.base import endings
from debias.sweeps.engines.here import Here
from debias.sweeps.live import LiveTable, live_table
from debias.sweeps.plan import Trial
from debias.sweeps.together import whole
from debias.sweeps.work import Assignment


def drawn(seen: LiveTable) -> str:
    console = Console(width=150, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(seen.table())
    return console.export_text()


def fails(words):
    raise RuntimeError("see mongodb://user:secret@host:1/db")


def trials(tmp_path, count):
    (tmp_path / "sweeps").mkdir()
    return [Assignment(Trial((), f"seed=[{n}]", f"key{n}"), tmp_path) for n in range(count)]


def test_it_counts_what_runs_waits_and_failed(tmp_path):
    seen = LiveTable(Here(fails), total=12)
    work = trials(tmp_path, 12)
    seen.submit(work[0])
    assert "seed=[0]" in drawn(seen) and "1 running, 0 failed, 0 finished, 11 waiting" in drawn(seen)
    seen.wait()
    assert "0 running, 1 failed, 0 finished, 11 waiting" in drawn(seen)
    for assignment, _ in endings(seen, work[1:], lambda line: None):
        last = assignment.trial.label
    text = drawn(seen)
    assert "0 running, 12 failed, 0 finished, 0 waiting" in text
    assert text.count("seed=") == live.MOST["failed"] and last in text, "the last few"
    assert "secret" not in text


def test_in_a_terminal_lines_stand_above_it(tmp_path, monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.__stderr__", terminal)
        with live_table(Here(fails), 1) as (engine, say):
            engine.submit(trials(tmp_path, 1)[0])
            say("its worker died")
            say("[1/1] is in the table")
            engine.wait()
        # A terminal gives what it has in pieces.
        text = ""
        while select.select([ours], [], [], 0.5)[0]:
            text += os.read(ours, 65536).decode(errors="replace")
    assert "its worker died" in text and "1 failed" in text and "is in the table" not in text


def test_trials_of_a_group_count_as_running(tmp_path):
    """And as waiting when their training is over, whatever became of it; then each for itself."""
    seen = LiveTable(Here(fails), total=5)
    work = trials(tmp_path, 5)
    group = tuple(replace(one.trial, words=("no such setting",)) for one in work[:4])
    seen.submit(Assignment(whole(group), tmp_path, n_seeds=4, group=group))
    text = drawn(seen)
    assert "4 trials together: seed=[0] to seed=[3]" in text
    assert "4 running, 0 failed, 0 finished, 1 waiting" in text
    _, ending = seen.wait()
    assert ending.status == "trained" and "no such setting" in ending.error
    assert "0 running, 0 failed, 0 finished, 5 waiting" in drawn(seen)
    seen.submit(work[0])
    seen.wait()
    assert "0 running, 1 failed, 0 finished, 4 waiting" in drawn(seen)
