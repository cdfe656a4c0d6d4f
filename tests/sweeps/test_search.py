"""A search: that it goes on, gives up what is bad, survives, and is shown."""

import builtins
import json
import math
import signal
import subprocess
import sys
import time

import optuna
import pytest
import yaml  # type: ignore[import-untyped]
from filelock import FileLock

import main as program
import results
import sweep
from errors import UserError
from stages.code import ROOT
from sweeps import search as searching
from sweeps.engines.here import Here
from sweeps.pruning import Pruned
from sweeps.search import objective_of, open_study, run_search
from sweeps.searched import read_search
from sweeps.shown import all_tables, best_table, counts_of
from sweeps.study import load_study
from sweeps.work import run_trial, work
from tests.sweeps.small import SEARCH
from tracking.runs import read_runs
from tracking.scalars import tell_listener

GIVEN = {
    "settings": {"pretrain.learning_rate": "default", "pretrain.batch_size": {"choice": [32, 64]}},
    "objective": "valid/model/average",
    "trials": 3,
}
# Where a rate is hopeless, which is asked for last: six cells of a grid, in order.
RATES = [0.003, 0.004, 0.005, 0.006, 0.007, 0.0]
HOPELESS = {
    "settings": {"pretrain.learning_rate": {"choice": RATES}},
    "objective": "valid/model/average",
    "trials": 6,
    "sampler": "grid",
}


@pytest.fixture
def words(tmp_path, cache_dir):
    return [*SEARCH, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


@pytest.fixture
def write_file(tmp_path, words):
    def write_file(given, *also):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"with": [*words, *also], "search": given}))
        return path

    return write_file


def statuses(store):
    return [json.loads((store / str(n) / "run.json").read_text())["status"] for n in range(1, 1 + len(runs_in(store)))]


def runs_in(store):
    return [path for path in store.iterdir() if path.name.isdigit()]


@pytest.mark.recipe
def test_a_search_goes_on_and_goes_by_held_out_images(tmp_path, write_file, capfd):
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
def test_a_hopeless_trial_is_given_up(tmp_path, write_file, capfd, monkeypatch):
    """Its run is PRUNED and no failure, it is shown as given up, counts as done, and nothing is left to go on from."""
    store = tmp_path / "runs"
    file = write_file(HOPELESS, "checkpoint_seconds=0.0")
    assert sweep.main([str(file)]) == 0
    out, err = capfd.readouterr()
    assert statuses(store) == ["COMPLETED"] * 5 + ["PRUNED"]
    assert "pretrain.learning_rate=0: given up" in err and "failed" not in out + err
    assert "5 finished, 1 given up" in out and "given up in epoch 2" in out
    # Five results, and of the one that was given up no checkpoint.
    assert len(list(store.glob("stages/*/result.pt"))) == 5 and not list(store.glob("stages/*/checkpoint.pt"))
    # Half of its four epochs were trained, and recorded.
    assert json.loads((store / "6" / "metrics.json").read_text())["pretrain/valid/model/average"]["steps"] == [1, 2]

    assert sweep.main([str(file)]) == 0
    assert "6 trials, 6 of them finished before" in capfd.readouterr().err
    assert len(runs_in(store)) == 6

    # It is in no mean, and nothing is missing.
    assert results.main(["--store", str(store)]) == 0
    printed = capfd.readouterr().out
    assert "learning_rate=0.007" in printed and "learning_rate=0.0 " not in printed and "Not in any mean" not in printed

    # The best can be run again; as it is there, its stages are found.
    assert results.main(["search", "mine", "--store", str(store), "--top", "2"]) == 0
    printed = capfd.readouterr().out
    assert "best 2: " in printed and f"picture: {store / 'sweeps' / 'mine-history.png'}" in printed
    command = next(line for line in printed.splitlines() if line.startswith("again: "))
    assert program.main(command.split()[3:]) == 0
    err = capfd.readouterr().err
    assert "pretrain: finished before, reused" in err


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
    assert before["finished"] in (2, 3) and before["given up"] == 0

    assert sweep.main([str(file)]) == 0
    assert f"{before['finished']} of them finished before" in capfd.readouterr().err
    ended = [trial.params["pretrain.learning_rate"] for trial in study.trials if trial.state.name != "FAIL"]
    assert sorted(ended) == sorted(RATES)
    assert counts_of(study) | {"failed": 0} == {
        "finished": 5, "given up": 1, "failed": 0, "running": 0, "waiting": 0
    }  # fmt: skip


@pytest.mark.recipe
@pytest.mark.parametrize("storage", [None, "sqlite:///{}/searches.db"])
def test_given_up_in_another_process(tmp_path, words, experiment, storage, processes):
    """The worker has plain data alone; a trial that it gave up before everything died stays so."""
    given = HOPELESS | ({"storage": storage.format(tmp_path)} if storage else {})
    search = read_search(experiment, "mine", words, given)
    search.folder.mkdir(parents=True)
    study = open_study(search)
    for rate in RATES[:5]:
        study.add_trial(
            optuna.trial.create_trial(
                value=90.0,
                params={"pretrain.learning_rate": rate},
                distributions={"pretrain.learning_rate": optuna.distributions.CategoricalDistribution(RATES)},
                intermediate_values=dict.fromkeys(range(1, 5), 90.0),
            )
        )
    outcomes = []

    class Elsewhere(Here):
        def wait(self):
            with processes.Pool(1) as pool:
                outcomes.append(pool.apply(work, (self._taken.popleft(), run_trial)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(experiment, search, Elsewhere(), lambda line: None)
    assert [outcome.status for outcome in outcomes] == ["pruned"]
    assert statuses(tmp_path / "runs") == ["PRUNED"]
    assert counts_of(study)["running"] == 1
    states = run_search(experiment, search, Here(), lambda line: None)
    assert states == [] and len(runs_in(tmp_path / "runs")) == 1
    assert counts_of(study)["given up"] == 1
    assert search.journal.exists() == (storage is None)
    [table] = all_tables([tmp_path / "runs"], None, None, 3)
    assert table.rows[0][:4] == ["mine", "5", "1", "0"]


@pytest.mark.recipe
@pytest.mark.filterwarnings("error:.*already reported")
def test_a_worker_that_is_tried_again_tells_its_epochs_again(tmp_path, words, experiment):
    """And so does a stage that is found in the store: neither breaks the report."""
    search = read_search(experiment, "mine", words, HOPELESS | {"trials": 1})
    kept = []

    class Twice(Here):
        def wait(self):
            kept.append(self._taken[0])
            first = super().wait()
            (tmp_path / "runs" / "1" / "run.json").write_text("{}")
            again = work(kept[0], self._run)
            assert again.status == "finished" and again.record.folder.name == "2"
            return first[0], again

    [state] = run_search(experiment, search, Twice(), lambda line: None)
    assert state.status == "finished"
    [trial] = open_study(search).trials
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert trial.value == max(trial.intermediate_values.values())


@pytest.mark.parametrize(
    ("objective", "metric", "reported"),
    [
        ("valid/model/average", "valid/model/average", [60.0, 80.0, 80.0, 90.0]),
        ("model/unbiased/oracle", "model/unbiased", [60.0, 80.0, 80.0, 90.0]),
        ("model/unbiased/last", "model/unbiased", [60.0, 80.0, 70.0, 90.0]),
    ],
)
def test_reported_is_what_is_searched_by(words, experiment, objective, metric, reported):
    """The best epoch so far where the best one counts, of this metric of this stage alone."""
    given = HOPELESS | {"trials": 1, "objective": objective, "oracle": objective.startswith("model")}
    search = read_search(experiment, "mine", words, given)

    def run(words):
        for epoch, value in enumerate([60.0, 80.0, 70.0, 90.0], 1):
            for name in ("train/accuracy", "loss", "valid/model/average", "model/unbiased"):
                tell_listener(f"pretrain/{name}", value if name == metric else 5.0, epoch)
            tell_listener(f"mine_gce/{metric}", 99.0, epoch)
        raise RuntimeError("no figures")

    run_search(experiment, search, Here(run), lambda line: None)
    [trial] = open_study(search).trials
    assert list(trial.intermediate_values.values()) == reported


@pytest.mark.parametrize("pruner", ["none", "halving", "hyperband"])
def test_every_pruner_can_be_asked(tmp_path, words, experiment, pruner):
    search = read_search(experiment, "mine", words, HOPELESS | {"pruner": pruner, "trials": 2})

    def run(words):
        for epoch in range(1, 5):
            tell_listener("pretrain/valid/model/average", 50.0 - 40.0 * ("0.004" in words[-1]), epoch)
        raise RuntimeError("no figures")

    states = run_search(experiment, search, Here(run), lambda line: None)
    assert {state.status for state in states} <= {"failed", "pruned"}
    assert any(state.status == "pruned" for state in states) == (pruner != "none")


def test_drawn_again_it_stays_given_up(tmp_path, words, experiment):
    """A sampler may draw what it has drawn; it is not run to be given up once more."""
    tried = []

    def run(words):
        tried.append(words[-1])
        raise Pruned

    given = GIVEN | {"settings": {"pretrain.batch_size": {"choice": [32, 64]}}, "sampler": "random", "trials": 8}
    states = run_search(experiment, read_search(experiment, "mine", words, given), Here(run), lambda line: None)
    assert len(states) == 8 and sorted(tried) == ["pretrain.batch_size=32", "pretrain.batch_size=64"]


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
    assert open_study(tpe, parallel=True).sampler._constant_liar
    assert not open_study(tpe).sampler._constant_liar


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
    assert best_table(open_study(search), "mine").rows == []


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
