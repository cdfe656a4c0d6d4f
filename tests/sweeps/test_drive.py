"""A sweep of 2 methods x 2 skews x 2 seeds: nothing lost, nothing doubled, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from debias import main as program
from debias import sweep
from debias.sweeps.drive import run_sweep, states_of
from debias.sweeps.engines.here import Here
from debias.sweeps.plan import words_plan
from debias.tracking.folders import read_runs
from debias.tracking.results.records import read_records
from debias.training.code import ROOT
from debias.training.loop import Loop
from tests.sweeps.small import SMALL


@pytest.fixture
def words(tmp_path: Path, cache_dir: Path) -> list[str]:
    return [*SMALL, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


def finished(store: Path) -> list[tuple]:
    return sorted((run.method, run.config["skew"], run.config["seed"]) for run in read_runs(store) if run.finished)


ALL = sorted((m, k, s) for m in ("erm", "depth_balanced") for k in (0.02, 0.05) for s in (1, 2))


@pytest.mark.recipe
def test_killed_and_repeated(tmp_path, words, capfd):
    """Killed after its second trial or later; the same command runs the rest alone, and a third one nothing."""
    store, record = tmp_path / "runs", tmp_path / "record.csv"
    command = [sys.executable, str(ROOT / "sweep.py"), "with", *words, "--record", str(record)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(finished(store)) < 2 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = finished(store)
    assert 2 <= len(before) < 8

    assert sweep.main(["with", *words, "--record", str(record)]) == 0
    out, err = capfd.readouterr()
    assert f"8 trials, {len(before)} of them finished before" in err
    assert finished(store) == ALL
    assert out.count("finished") == 8 and "± " in out
    # A run that was finished, but not yet in the record when the sweep died, is not lost from it either.
    assert sorted((r.method, r.config["skew"], r.config["seed"]) for r in read_records(record)) == ALL

    runs = sorted(path.name for path in store.iterdir() if path.name.isdigit())
    assert sweep.main(["with", *words]) == 0
    assert sorted(path.name for path in store.iterdir() if path.name.isdigit()) == runs


@pytest.mark.recipe
def test_two_commands_share_the_work(tmp_path, words, capfd):
    """Each trial is run once, by whichever of them comes to it."""
    words = [*(word for word in words if not word.startswith("method=")), "method=erm"]
    command = [sys.executable, str(ROOT / "sweep.py"), "with", *words]
    other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert sweep.main(["with", *words]) == 0
    assert other.wait() == 0
    out, err = capfd.readouterr()
    assert finished(tmp_path / "runs") == [run for run in ALL if run[0] == "erm"]
    assert len([path for path in (tmp_path / "runs").iterdir() if path.name.isdigit()]) == 4
    assert err.count("4 trials") == 2 and out.count("finished") == 4


@pytest.mark.recipe
def test_a_run_started_by_hand_counts(tmp_path, words, capfd):
    words = [word for word in words if not word.startswith(("method", "skew", "seed"))]
    assert program.main(["with", *words, "erm", "seed=2"]) == 0
    assert sweep.main(["with", *words, "method=erm", "seed=1,2"]) == 0
    assert "2 trials, 1 of them finished before" in capfd.readouterr().err
    assert [run.config["seed"] for run in read_runs(tmp_path / "runs")] == [2, 1]


@pytest.mark.recipe
def test_only_whole_finished_runs_count(tmp_path, words):
    """Not a stage's own command, and not a run that has figures but did not end well."""
    words = [word for word in words if not word.startswith(("method", "skew", "seed"))]
    plan = words_plan(program.build(), [*words, "erm", "seed=1"])
    assert program.main(["pretrain", "with", *words, "erm"]) == 0
    assert [state.status for state in states_of(plan)] == ["waiting"]
    assert program.main(["with", *words, "erm"]) == 0
    assert [state.status for state in states_of(plan)] == ["finished"]
    path = tmp_path / "runs" / "2" / "run.json"
    path.write_text(path.read_text().replace('"COMPLETED"', '"FAILED"'))
    assert [state.status for state in states_of(plan)] == ["waiting"]


def test_a_failure_does_not_stop_the_rest(words):
    """And is tried again the next time."""
    plan = words_plan(program.build(), words)
    lines: list[str] = []
    tried: list[tuple[str, ...]] = []

    def run(words: tuple[str, ...]) -> None:
        tried.append(words)
        raise MemoryError("no\nmemory left")

    states = run_sweep(plan, Here(run), lines.append)
    assert [state.status for state in states] == ["failed"] * 8 and len(tried) == 8
    assert states[0].error == "MemoryError: no memory left"
    assert any("[8/8]" in line and "failed" in line for line in lines)
    run_sweep(plan, Here(run), lines.append)
    assert len(tried) == 16


def test_a_run_without_figures_is_a_failure(words):
    states = run_sweep(words_plan(program.build(), words[:1] + words[4:]), Here(lambda words: None), lambda line: None)
    assert [(state.status, state.error) for state in states] == [("failed", "the run left no figures")]


def test_what_another_process_runs_is_left_to_it(tmp_path, words):
    """A trial that is being run elsewhere comes last; when its process dies, it is run here."""
    plan = words_plan(program.build(), words)
    lock = tmp_path / "runs" / "sweeps" / f"{plan.trials[0].key}.lock"
    lock.parent.mkdir(parents=True)
    code = f"import time; from filelock import FileLock; lock = FileLock({str(lock)!r}); lock.acquire()"
    code += "; print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    tried: list[tuple[str, ...]] = []

    def run(words: tuple[str, ...]) -> None:
        tried.append(words)
        if len(tried) == 7:
            os.kill(holder.pid, signal.SIGKILL)

    run_sweep(plan, Here(run), lambda line: None)
    holder.wait()
    assert tried == [trial.words for trial in (*plan.trials[1:], plan.trials[0])]


def test_the_plan_is_shown_and_nothing_run(tmp_path, words, capsys):
    assert sweep.main(["with", *words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("waiting") == 8
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which trials?"),
        (["with"], "which trials?"),
        (["with", "colored_digits", "sead=1,2"], "no setting is called 'sead'; did you mean seed?"),
        (["nowhere.yaml"], "nowhere.yaml: no sweep can be read"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line(arguments, says, capsys):
    assert sweep.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


@pytest.mark.recipe
def test_seeds_that_are_trained_at_once(tmp_path, words, capfd):
    """Each has a run; what is finished is not trained again, and seeds that do not follow others go by themselves."""
    words = [word for word in words if not word.startswith(("method", "skew", "seed"))]
    assert sweep.main(["with", *words, "method=erm", "seed=4"]) == 0
    capfd.readouterr()
    assert sweep.main(["with", *words, "method=erm", "seed=1,2,3,4,5,7", "replicas=2"]) == 0
    out, err = capfd.readouterr()
    runs = list(read_runs(tmp_path / "runs"))
    assert [run.config["seed"] for run in runs] == [4, 1, 2, 3, 5, 7]
    assert [run.info["stages"]["pretrain"]["replicas"] for run in runs] == [1, 2, 2, 1, 1, 1]
    assert out.count("finished") == 6 and "[5/5]" in err
    assert "seed=1 and 1 more seeds" in err


@pytest.mark.recipe
def test_a_seed_that_fails_leaves_those_trained_with_it(tmp_path, words, monkeypatch):
    """All are recorded, and the sweep says which one failed."""
    words = [word for word in words if not word.startswith(("method", "skew", "seed"))]
    plan = words_plan(program.build(), [*words, "erm", "seed=1..3", "replicas=3"])
    fit = Loop.fitted

    def diverged(loop, stopped=False):
        fitted = fit(loop, stopped)
        if loop.ctx.seed == 2:
            fitted.history[-1]["loss"] = float("nan")
        return fitted

    monkeypatch.setattr(Loop, "fitted", diverged)
    states = run_sweep(plan, Here(), lambda line: None)
    assert [state.status for state in states] == ["finished", "failed", "finished"]
    assert "lower pretrain.learning_rate" in states[1].error


def test_finished_ones_are_found_without_running(words):
    assert {state.status for state in states_of(words_plan(program.build(), words))} == {"waiting"}
