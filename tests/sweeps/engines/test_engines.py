"""Every engine runs the same sweep to the same figures, whatever dies on the way."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from debias import main as program
from debias import sweep
from debias.errors import UserError
from debias.sweeps.drive import run_sweep, states_of
from debias.sweeps.engines.base import endings
from debias.sweeps.engines.here import Here
from debias.sweeps.engines.options import add_options, make_engine
from debias.sweeps.engines.processes import Processes
from debias.sweeps.engines.slurm import Slurm
from debias.sweeps.engines.worker import log_file
from debias.sweeps.plan import words_plan
from debias.sweeps.work import Assignment
from debias.tracking.folders import read_runs
from debias.training.code import ROOT
from tests.sweeps.small import SMALL, dies_always, dies_once, figures, prints_and_fails


def statuses(store: Path) -> Counter[str]:
    """Of the run folders, whatever the program makes of them; one whose file is being written is left out."""
    found: Counter[str] = Counter()
    for path in store.glob("[0-9]*/run.json"):
        with contextlib.suppress(ValueError):
            found[json.loads(path.read_text())["status"]] += 1
    return found


@pytest.fixture
def words(tmp_path, cache_dir):
    return [*SMALL, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


def some(words, *chosen):
    """The plan with other values of the grid."""
    names = {word.partition("=")[0] for word in chosen}
    return words_plan(program.build(), [*(word for word in words if word.partition("=")[0] not in names), *chosen])


def swept(plan, engine, say):
    """The states of a sweep, with the engine closed whatever happens."""
    with contextlib.closing(engine):
        return run_sweep(plan, engine, say)


def one_was_killed(plan, states, reference):
    """Of two trials, which have the figures of the reference all the same."""
    assert len(states) == 2 and figures(states).items() <= figures(states_of(reference)).items()
    assert statuses(plan.store) == {"COMPLETED": 2, "RUNNING": 1}
    assert not list((plan.store / "sweeps").glob("*.log")), "what finished trials printed is not kept"


@pytest.mark.recipe
def test_a_process_is_killed_in_the_middle_of_a_trial(tmp_path, words, reference):
    plan, lines = some(words, "method=erm", "skew=0.02"), []
    one_was_killed(plan, swept(plan, Processes(2, dies_once), lines.append), reference)
    assert sum("its worker died (killed by signal 9); trying again" in line for line in lines) == 1


def test_one_that_kills_its_workers_does_not_stop_the_rest(words):
    """Those of the other seed run, and leave no figures."""
    plan = some(words, "method=erm", "skew=0.02")
    states = swept(plan, Processes(2, dies_always), lambda line: None)
    dead = "its worker died 3 times (killed by signal 9)"
    assert [state.error for state in states] == ["the run left no figures", dead]
    assert {state.status for state in states} == {"failed"}


def test_what_a_failed_trial_printed_is_in_its_file(words, capfd):
    plan = some(words, "method=erm", "skew=0.02", "seed=1")
    engine = Processes(2, prints_and_fails)
    try:
        (state,) = run_sweep(plan, engine, lambda line: None)
        assert len(engine._workers) == 1, "no more than there are trials"
    finally:
        engine.close()
    assert state.error == "RuntimeError: no memory left"
    log = log_file(Assignment(plan.trials[0], plan.store)).read_text()
    assert "to the output" in log and "past Python" in log
    assert "output" not in (captured := capfd.readouterr()).out and "Python" not in captured.err


@pytest.mark.recipe
@pytest.mark.parametrize("how", ["Ctrl-C", "killed"])
def test_no_worker_is_left_behind(tmp_path, words, how):
    long = [*words, "method=erm", "skew=0.02", "pretrain.epochs=5000"]
    command = [sys.executable, str(ROOT / "sweep.py"), "with", *long, "--jobs", "2"]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    store, deadline = tmp_path / "runs", time.monotonic() + 120
    # Written last of what Sacred writes when a run starts.
    while len(list(store.glob("[0-9]*/cout.txt"))) < 2:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.1)
    if how == "Ctrl-C":
        os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate()
        assert child.returncode == 130 and "Traceback" not in err
        assert err.splitlines()[-1].startswith("interrupted")
        assert statuses(store) == {"INTERRUPTED": 2}
    else:
        child.kill()
        child.communicate()
    while True:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.recipe
def test_a_job_is_killed(tmp_path, words, reference, capfd):
    """submitit's jobs on this machine stand for those of Slurm."""
    plan, lines = some(words, "method=erm", "skew=0.02"), []
    engine = Slurm(plan.store / "sweeps" / "slurm", 2, {"cluster": "local"}, dies_once)
    one_was_killed(plan, swept(plan, engine, lines.append), reference)
    assert sum("its worker died (job " in line for line in lines) == 1
    assert capfd.readouterr().err == ""


def test_jobs_that_are_left_are_cancelled(tmp_path, words):
    plan = some(words, "method=erm", "skew=0.02", "seed=1", "pretrain.epochs=5000")
    (plan.store / "sweeps").mkdir(parents=True)
    engine = Slurm(plan.store / "sweeps" / "slurm", 2, {"cluster": "local"})
    engine.submit(Assignment(plan.trials[0], plan.store))
    (job, _), *_ = engine._jobs
    engine.close()
    assert job.done()


@pytest.mark.recipe
@pytest.mark.parametrize("options", [["--engine", "ray"], ["--engine", "slurm", "--slurm", "cluster=local"]])
def test_a_finished_sweep_starts_nothing(reference, cache_dir, options, capsys):
    ray = pytest.importorskip("ray")
    store = reference.store
    assert sweep.main(["with", *SMALL, f"store={store}", f"cache_dir={cache_dir}", *options]) == 0
    assert not ray.is_initialized() and not (store / "sweeps" / "slurm").exists()
    assert capsys.readouterr().out.count("finished") == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "auto"], "--address belongs to --engine ray, not to here"),
        (["--gpus", "1"], "--gpus belongs to --engine ray"),
        (["--cpus", "1", "--engine", "slurm"], "--cpus belongs to --engine ray, not to slurm"),
        (["--jobs", "2", "--engine", "ray"], "--jobs belongs to --engine here or slurm"),
        (["--slurm", "timeout_min=3"], "--slurm belongs to --engine slurm"),
        (["--engine", "slurm", "--slurm", "timeout_min"], "write KEY=VALUE"),
        (["--engine", "slurm", "--slurm", "cluster=here"], "slurm or local"),
        (["--engine", "rya"], "did you mean ray?"),
        (["--engine", "ray", "--address", "ray://host:1"], "write auto, or host:port"),
        (["--engine", "ray", "--address", "127.0.0.1:9"], "Ray cannot be used (ConnectionRefusedError"),
        (["--engine", "ray", "--cpus", "0"], "a trial takes some CPUs"),
        (["--engine", "ray", "--gpus", "1.5"], "above 1, a whole number"),
    ],
)
def test_options_that_do_not_go_together(words, options, says, capsys):
    assert sweep.main(["with", *words, *options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and says in line


@pytest.mark.parametrize(
    ("options", "trials", "gpus"),
    [
        ([], [["device=cuda", "device=cpu"], ["device='cpu'"]], 0),
        ([], [["device=cpu"], ["seed=1"]], None),
        (["--gpus", "0.25"], [["device=cpu"]], 0.25),
    ],
)
def test_trials_that_stay_away_from_gpus_take_none(tmp_path, options, trials, gpus):
    """Where all of them do, unless it is said how many; None leaves it to what the cluster has."""
    pytest.importorskip("ray")
    parser = argparse.ArgumentParser()
    add_options(parser)
    engine = make_engine(parser.parse_args(["--engine", "ray", *options]), tmp_path, trials)
    assert engine._gpus == gpus


def test_without_slurm_nothing_starts(tmp_path, words, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main(["with", *words, "--engine", "slurm"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_wrong_parameter_of_slurm_is_one_line(tmp_path, words):
    plan = some(words, "method=erm", "skew=0.02", "seed=1")
    with pytest.raises(UserError, match="--slurm: .*timeout") as caught:
        run_sweep(plan, Slurm(tmp_path, 2, {"cluster": "local", "timeout": 3}), lambda line: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "package", "says"),
    [("ray", "ray", "pip install 'ray"), ("slurm", "submitit", "pip install 'submitit")],
)
def test_a_missing_package_is_one_line(tmp_path, words, engine, package, says, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert sweep.main(["with", *words, "--engine", engine]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err and not (tmp_path / "runs").exists()


def test_a_trial_is_asked_for_when_there_is_a_slot():
    """An engine is asked for its slots only when there is a trial, so it need not be started before."""

    class Unused(Here):
        @property
        def slots(self):
            raise AssertionError

    assert list(endings(Unused(), [], lambda line: None)) == []


@pytest.mark.recipe
def test_a_search_in_two_processes(tmp_path, cache_dir):
    settings = "{pretrain.learning_rate: default}"
    words = ["colored_digits", "erm", *(word for word in SMALL[4:] if "epochs" not in word), "pretrain.epochs=1"]
    common = json.dumps([*words, "valid_fraction=0.2", f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"])
    search = f"{{settings: {settings}, objective: valid/model/average, trials: 3, sampler: random}}"
    file = tmp_path / "mine.yaml"
    file.write_text(f"with: {common}\nsearch: {search}\n")
    assert sweep.main([str(file), "--jobs", "2"]) == 0
    assert [run.finished for run in read_runs(tmp_path / "runs")] == [True] * 3
