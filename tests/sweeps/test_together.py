"""Trials that are trained together: each has the numbers and the run of a trial by itself, whatever happens to them."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

from debias import main as program
from debias import sweep
from debias.config import resolve
from debias.data.loading import load_task
from debias.data.registry import DATASETS
from debias.stages.recipes import stages_of
from debias.sweeps.drive import run_sweep
from debias.sweeps.engines.here import Here
from debias.sweeps.engines.processes import Processes
from debias.sweeps.plan import configured, words_plan
from debias.sweeps.together import MOST, train_group, with_groups
from debias.tracking.folders import read_runs
from debias.training.code import ROOT
from debias.training.loop import Loop
from debias.training.replicas import Meeting
from debias.training.store import Store
from debias.training.walk import run_stages
from tests.pipeline import short
from tests.tolerance import differ, same_to_float_tolerance

GRID = ["colored_digits", "limit=600", "threads=1", "progress=False", "pictures=False", "seed=1,2", "skew=0.05,0.2"]
PAIRS = [(seed, skew) for seed in (1, 2) for skew in (0.05, 0.2)]
CPU = torch.device("cpu")


@pytest.fixture
def words(tmp_path, cache_dir):
    return [*GRID, *short("erm", 1), f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


def without(words, name):
    return [word for word in words if not word.startswith(f"{name}=")]


def planned(words, most=MOST):
    return with_groups(words_plan(program.build(), words), most, alone=True)


def runs(store):
    """Seed, skew and status of each run of a store."""
    return [(run.config["seed"], run.config["skew"], run.status) for run in read_runs(store)]


def replicas(store):
    """With how many others each stage of each run was trained."""
    return {about["replicas"] for run in read_runs(store) for about in run.info["stages"].values()}


def outcomes(plan, store):
    """Of each trial, from what is in a folder of stages, or trained by itself."""
    found = []
    for trial in plan.trials:
        own = resolve(configured(program.build(), trial.words))
        stages = stages_of(own["method"], dataset=own["dataset"])
        quiet = {"say": lambda line: None, "progress": False}
        found.append(run_stages(stages, load_task(own), own, CPU, Store(store), **quiet))
    return found


@pytest.mark.recipe
def test_the_numbers_and_the_runs_of_trials_by_themselves(tmp_path, words, capfd):
    words = [*words, *short("denetdm", 2)]
    assert sweep.main(["with", *words, "--together"]) == 0
    out, err = capfd.readouterr()
    assert "[1/4] 4 trials together: seed=1 skew=0.05 to seed=2 skew=0.2" in err and "[4/4]" in err
    assert out.count("finished") == 4 and "± " in out
    store, plan = tmp_path / "runs", planned(words)
    assert runs(store) == [(*pair, "COMPLETED") for pair in PAIRS]
    assert replicas(store) == {4}
    assert all((run.folder / "weights.safetensors").exists() for run in read_runs(store))
    together = outcomes(plan, store / "stages")
    assert all(about.reused for outcome in together for about in outcome.stages.values())
    alone = outcomes(plan, tmp_path / "alone")
    same_to_float_tolerance(together, alone)
    assert differ(alone[0], alone[1]) > 2e-3, "and so are skews"
    # Nothing is left to be trained simultaneously.
    assert sweep.main(["with", *words, "--together"]) == 0
    assert "4 trials, 4 of them finished before\n" in (said := capfd.readouterr().err) and "trials together" not in said


@pytest.mark.recipe
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_stopped_in_the_middle_and_gone_on_with(tmp_path, words, how, capfd):
    """In the middle of the training; repeat the command to continue from the checkpoints of all."""
    words = [*words, "pretrain.epochs=40"]
    often = [*words, "checkpoint_seconds=0"]
    command = [sys.executable, str(ROOT / "sweep.py"), "with", *often, "--together"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    store, deadline = tmp_path / "runs", time.monotonic() + 120
    while len(list(store.glob("stages/pretrain-*/checkpoint.pt"))) < 4:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(how)
    _, err = child.communicate()
    assert "Traceback" not in err and runs(store) == []
    if how == signal.SIGINT:
        assert child.returncode == 130 and err.splitlines()[-1].startswith("interrupted")
    assert sweep.main(["with", *words, "--together"]) == 0
    assert capfd.readouterr().err.count("pretrain: resuming after epoch") == 4
    assert runs(store) == [(*pair, "COMPLETED") for pair in PAIRS] and replicas(store) == {4}


@pytest.mark.recipe
def test_one_that_fails_leaves_the_others(words, monkeypatch, capfd):
    """In its training, and in the loading of its data; each says why in its own run."""
    plan = planned([*words, "seed=1,2,3"])
    fit, spec = Loop.fitted, DATASETS["colored_digits"]

    def diverged(loop, stopped=False):
        fitted = fit(loop, stopped)
        if loop.ctx.seed == 2 and loop.ctx.settings["skew"] == 0.2:
            fitted.history[-1]["loss"] = float("nan")
        return fitted

    def load(settings):
        if settings["seed"] == 3 and settings["skew"] == 0.05:
            raise MemoryError("its data do not fit")
        return spec.load(settings)

    monkeypatch.setattr(Loop, "fitted", diverged)
    monkeypatch.setitem(DATASETS, spec.name, replace(spec, load=load))
    states = {state.trial.label: state for state in run_sweep(plan, Here(), lambda line: None)}
    failed = {label for label, state in states.items() if state.status == "failed"}
    assert failed == {"seed=2 skew=0.2", "seed=3 skew=0.05"} and len(states) == 6
    assert "lower pretrain.learning_rate" in states["seed=2 skew=0.2"].error
    assert states["seed=3 skew=0.05"].error == "MemoryError: its data do not fit"
    said = capfd.readouterr().err.splitlines()
    assert "seed=3 skew=0.05: its data do not fit" in said
    assert any(line.startswith("seed=2 skew=0.2: pretrain failed: ") for line in said)
    good = [state.record for state in states.values() if state.record is not None]
    assert {run.info["stages"]["pretrain"]["replicas"] for run in good} == {5}


@pytest.mark.recipe
def test_where_training_at_once_fails_they_are_run_one_by_one(tmp_path, words, monkeypatch):
    def fails(*arguments, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Meeting, "run", fails)
    said: list[str] = []
    states = run_sweep(planned(words), Here(), said.append)
    assert [state.status for state in states] == ["finished"] * 4 and replicas(tmp_path / "runs") == {1}
    assert any("not trained together (OutOfMemoryError: CUDA out of memory); now one by one" in line for line in said)


@pytest.mark.recipe
def test_a_worker_trains_a_group_and_several_record_its_trials(tmp_path, words, capfd):
    """Its lines are in a file, which goes when all is well; trials that cannot be in a group go beside it."""
    words = [*without(words, "seed"), "pretrain.epochs=1,2", "seed=1"]
    assert sweep.main(["with", *words, "--together", "--jobs", "2"]) == 0
    out, err = capfd.readouterr()
    store = tmp_path / "runs"
    assert out.count("finished") == 4 and err.count("2 trials together") == 2
    assert sorted(runs(store)) == sorted([(1, skew, "COMPLETED") for skew in (0.05, 0.2)] * 2)
    assert replicas(store) == {2} and not list((store / "sweeps").glob("*.log"))


def test_a_group_that_fails_in_a_worker_says_why(words):
    plan = planned([*without(words, "seed"), "seed=1"])
    bad = tuple(replace(trial, words=(*trial.words, "pretrain.epochs=0")) for trial in plan.trials)
    said: list[str] = []
    engine = Processes(1)
    try:
        states = run_sweep(replace(plan, trials=bad), engine, said.append)
    finally:
        engine.close()
    assert [state.status for state in states] == ["failed"] * 2
    assert any("2 trials together" in line and "pretrain.epochs: 0 is out of range" in line for line in said)


@pytest.mark.recipe
def test_what_another_process_is_at_is_left_to_it(tmp_path, words):
    """And what it has finished in the meantime."""
    plan = planned([*words, "seed=1,2,3"])
    (tmp_path / "runs" / "sweeps").mkdir(parents=True)
    first = plan.trials[0]
    assert program.main(["with", *first.words]) == 0
    with FileLock(tmp_path / "runs" / "sweeps" / f"{plan.trials[1].key}.lock"):
        train_group(plan.trials, plan.store, None)
    stored = list((tmp_path / "runs" / "stages").glob("pretrain-*/done.json"))
    assert len(stored) == 1 + 4
    # Nothing is held any more.
    for trial in plan.trials:
        FileLock(tmp_path / "runs" / "sweeps" / f"{trial.key}.lock").acquire(timeout=0).lock.release()


@pytest.mark.recipe
def test_fresh_computes_anew_once(tmp_path, words, capfd):
    """Not once more in the runs that follow."""
    words = without(words, "skew")
    assert sweep.main(["with", *words, "--together"]) == 0
    results = list((tmp_path / "runs" / "stages").glob("*/result.pt"))
    before = {path: path.stat().st_mtime_ns for path in results}
    # Runs that are finished are not run again, so as if they were not.
    for path in (tmp_path / "runs").glob("[0-9]*/run.json"):
        path.write_text(path.read_text().replace('"COMPLETED"', '"FAILED"'))
    assert sweep.main(["with", *words, "fresh=True", "--together"]) == 0
    assert len(before) == 2 and all(path.stat().st_mtime_ns > before[path] for path in before)
    again = list(read_runs(tmp_path / "runs"))[2:]
    assert [run.info["stages"]["pretrain"]["replicas"] for run in again] == [2, 2]
    assert "reused" in capfd.readouterr().err


def test_groups_are_shown_and_nothing_run(tmp_path, words, capsys):
    assert sweep.main(["with", *words, "seed=1..4", "--together", "3", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [out.count(f"group {number}, ") for number in (1, 2, 3, 4)] == [3, 3, 2, 0]
    assert out.count("waiting") == 8 and not (tmp_path / "runs").exists()
    # On a CPU only when asked for.
    assert sweep.main(["with", *words, "device=cpu", "--dry-run"]) == 0
    assert "group" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["erm", "seed=1,2", "replicas=2", "--together"], "leave out replicas"),
        (
            ["erm", "valid_fraction=0.2", "search.pretrain.batch_size=choice:32,64", "search.name=x",
             "search.objective=valid/model/average", "--together=4"],
            "--together: what a search tries next",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_anything_starts(tmp_path, arguments, says, capsys):
    assert sweep.main(["with", "colored_digits", f"store={tmp_path / 'runs'}", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("given", ["0", "some", "-2", "1.5"])
def test_a_number_that_is_none_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["with", "erm", "seed=1,2", f"--together={given}"])
    assert "a whole number of at least 1, on, off or auto" in capsys.readouterr().err
