"""A search: that it goes on, survives what stops it, and asks for nothing twice."""

import builtins
import math
import signal
import subprocess
import sys
import time

import pytest
import yaml
from filelock import FileLock

from debias import main as program
from debias import sweep
from debias.errors import UserError
from debias.sweeps.engines.here import Here
from debias.sweeps.searching import search as searching
from debias.sweeps.searching.search import objective_of, opened_study, run_search
from debias.sweeps.searching.spec import read_search
from debias.sweeps.searching.study import load_study
from debias.sweeps.searching.tables import best_table
from debias.sweeps.searching.trials import counts_of
from debias.sweeps.work import run_trial
from debias.tracking.folders import read_runs
from debias.training.code import ROOT
from tests.sweeps.small import GIVEN, HOPELESS, RATES


@pytest.mark.recipe
def test_a_search_goes_on_and_goes_by_held_out_images(tmp_path, write_file, canvases, capfd):
    file = write_file(GIVEN)
    assert sweep.main([str(file)]) == 0
    out = capfd.readouterr().out
    assert "best of 3 trials" in out and "best 3: " in out and "oracle" not in out
    runs = list(read_runs(tmp_path / "runs"))
    assert len(runs) == 3
    best = max(objective_of(run, "valid/model/average") for run in runs)
    assert f"{best:.2f}" in out
    assert (tmp_path / "runs" / "sweeps" / "mine-history.png").stat().st_size > 5000

    # The same command runs nothing; more trials are the same search.
    assert sweep.main([str(file)]) == 0
    assert "3 of them finished before" in capfd.readouterr().err
    file.write_text(file.read_text().replace("trials: 3", "trials: 4"))
    assert sweep.main([str(file)]) == 0
    assert len(list(read_runs(tmp_path / "runs"))) == 4

    assert sweep.main([str(file), "threads=2"]) == 0, "on other threads it is the same search"

    # Other ranges are another search.
    other = yaml.safe_load(file.read_text())
    other["search"]["settings"] = {"pretrain.learning_rate": "default"}
    file.write_text(yaml.safe_dump(other))
    assert sweep.main([str(file)]) == 2
    assert "holds another search" in capfd.readouterr().err


@pytest.mark.recipe
def test_killed_in_the_middle_nothing_is_lost(tmp_path, write_file, capfd):
    """Killed while a trial runs, it is run again with the values it had; no cell of a grid is asked for twice."""
    store = tmp_path / "runs"
    file = write_file(HOPELESS)
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "sweep.py"), str(file)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (store / "3" / "metrics.json").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    study = load_study(str(store / "sweeps" / "mine.journal"), "mine")
    before = counts_of(study)
    assert before["finished"] in (2, 3) and before["pruned"] == 0

    assert sweep.main([str(file)]) == 0
    assert f"{before['finished']} of them finished before" in capfd.readouterr().err
    ended = [trial.params["pretrain.learning_rate"] for trial in study.trials if trial.state.name != "FAIL"]
    assert sorted(ended) == sorted(RATES)
    assert counts_of(study) | {"failed": 0} == {
        "finished": 5, "pruned": 1, "failed": 0, "running": 0, "waiting": 0
    }  # fmt: skip


def test_several_at_once_ask_for_different_cells(tmp_path, words, experiment):
    """What is running is not asked for again, by a grid; and others take it for bad until it is known."""
    given = GIVEN | {"settings": {"pretrain.batch_size": {"choice": [16, 32, 64]}}, "sampler": "grid", "trials": 9}
    search = read_search(experiment, "mine", words, given)
    most = []

    class Three(Here):
        slots = 3

        def wait(self):
            most.append(len(self._taken))
            return super().wait()

    def fail(words):
        raise RuntimeError("out of memory")

    for _ in range(2):
        states = run_search(experiment, search, Three(fail), lambda line: None)
        assert sorted(state.trial.label for state in states) == [f"pretrain.batch_size={size}" for size in (16, 32, 64)]
    assert max(most) == 3
    tpe = read_search(experiment, "other", words, GIVEN)
    assert opened_study(tpe, parallel=True).sampler._constant_liar
    assert not opened_study(tpe).sampler._constant_liar


@pytest.mark.recipe
def test_one_of_several_that_fails_is_made_up_for(words, experiment):
    """Also when all that were wanted had been given out before it failed."""
    search = read_search(experiment, "mine", words, GIVEN | {"trials": 2, "sampler": "random"})
    tried: list[object] = []

    class Two(Here):
        slots = 2

    def second_fails(words):
        tried.append(words)
        if len(tried) == 2:
            raise RuntimeError("out of memory")
        run_trial(words)

    states = run_search(experiment, search, Two(second_fails), lambda line: None)
    assert [state.status for state in states] == ["finished", "failed", "finished"]


@pytest.mark.recipe
def test_a_finished_search_starts_no_engine(words, experiment):
    """Whose slots are asked for only when there is something to run."""
    search = read_search(experiment, "mine", words, GIVEN | {"trials": 1})
    run_search(experiment, search, Here(), lambda line: None)

    class Unused(Here):
        @property
        def slots(self):
            raise AssertionError

    assert run_search(experiment, search, Unused(), lambda line: None) == []


def test_a_trial_whose_process_died_is_made_again(experiment, words):
    """With the values it had."""
    search = read_search(experiment, "mine", words, GIVEN | {"trials": 1})
    tried: list[tuple[str, ...]] = []

    def die(words):
        tried.append(tuple(words))
        raise KeyboardInterrupt

    def fail(words):
        tried.append(tuple(words))
        raise RuntimeError("out of memory")

    with pytest.raises(KeyboardInterrupt):
        run_search(experiment, search, Here(die), lambda line: None)
    states = run_search(experiment, search, Here(fail), lambda line: None)
    assert tried[0] == tried[1]
    assert [state.error for state in states] == ["RuntimeError: out of memory"]
    assert best_table(opened_study(search), "mine").rows == []


def test_one_process_at_a_time(experiment, words):
    search = read_search(experiment, "mine", words, GIVEN)
    search.folder.mkdir(parents=True)
    with FileLock(search.folder / "mine.lock"), pytest.raises(UserError, match="another process is at this"):
        run_search(experiment, search, Here(lambda words: None), lambda line: None)


@pytest.mark.recipe
def test_a_figure_of_held_out_images_is_not_one_of_the_test_set(tmp_path, words):
    """The summary's `valid` is a test figure in the epoch that held-out images chose."""
    assert program.main(["with", *words]) == 0
    (run,) = read_runs(tmp_path / "runs")
    assert objective_of(run, "model/average/valid") == run.summary["model/average/valid"]
    held_out = objective_of(run, "valid/model/average")
    assert held_out is not None and math.isclose(held_out * 1.2, round(held_out * 1.2), abs_tol=1e-6), "120 images"
    assert objective_of(run, "valid/target/average") is None


def test_without_optuna_one_line_says_what_to_install(experiment, words, monkeypatch):
    search = read_search(experiment, "mine", words, GIVEN)
    real = builtins.__import__

    def without(name, *rest):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install 'optuna"):
        run_search(experiment, search, Here(lambda words: None), lambda line: None)


def test_every_range_is_understood(experiment, words):
    ranges = {
        "pretrain.learning_rate": {"log": [0.001, 1]},
        "pretrain.epochs": {"uniform": [1, 5]},
        "pretrain.network": {"choice": ["mlp3", "mlp5"]},
    }
    search = read_search(experiment, "mine", words, GIVEN | {"settings": ranges})
    assert search.most_rounds == 5
    kinds = [type(searching._distribution(path, value)).__name__ for path, value in search.ranges.items()]
    assert kinds == ["FloatDistribution", "IntDistribution", "CategoricalDistribution"]
