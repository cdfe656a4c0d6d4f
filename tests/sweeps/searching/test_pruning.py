"""A bad trial is pruned: in whichever process it runs, by what it is searched by, once."""

import json

import optuna
import pytest

from debias import main as program
from debias import results, sweep
from debias.sweeps.engines.here import Here
from debias.sweeps.searching.pruning import Pruned
from debias.sweeps.searching.search import opened_study, run_search
from debias.sweeps.searching.spec import read_search
from debias.sweeps.searching.tables import all_tables
from debias.sweeps.searching.trials import counts_of
from debias.sweeps.work import run_trial, work
from debias.tracking.scalars import tell_listener
from tests.sweeps.small import GIVEN, HOPELESS, RATES, runs_in, statuses


@pytest.mark.recipe
def test_a_hopeless_trial_is_given_up(tmp_path, write_file, capfd):
    """Its run is PRUNED and no failure, it is shown as pruned, counts as done, and leaves no checkpoint."""
    store = tmp_path / "runs"
    file = write_file(HOPELESS, "checkpoint_seconds=0.0")
    assert sweep.main([str(file)]) == 0
    out, err = capfd.readouterr()
    assert statuses(store) == ["COMPLETED"] * 5 + ["PRUNED"]
    assert "pretrain.learning_rate=0: pruned" in err and "failed" not in out + err
    assert "5 finished, 1 pruned" in out and "pruned in epoch 2" in out
    # Five results, and of the one that was pruned no checkpoint.
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
@pytest.mark.parametrize("storage", [None, "sqlite:///{}/searches.db"])
def test_given_up_in_another_process(tmp_path, words, experiment, storage, processes):
    """The worker has plain data alone; a trial that it gave up before everything died stays so."""
    given = HOPELESS | ({"storage": storage.format(tmp_path)} if storage else {})
    search = read_search(experiment, "mine", words, given)
    search.folder.mkdir(parents=True)
    study = opened_study(search)
    for rate in RATES[:5]:
        study.add_trial(
            optuna.trial.create_trial(
                value=90.0,
                params={"pretrain.learning_rate": rate},
                distributions={"pretrain.learning_rate": optuna.distributions.CategoricalDistribution(RATES)},
                intermediate_values=dict.fromkeys(range(1, 5), 90.0),
            )
        )
    endings = []

    class Elsewhere(Here):
        def wait(self):
            with processes.Pool(1) as pool:
                endings.append(pool.apply(work, (self._taken.popleft(), run_trial)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(experiment, search, Elsewhere(), lambda line: None)
    assert [ending.status for ending in endings] == ["pruned"]
    assert statuses(tmp_path / "runs") == ["PRUNED"]
    assert counts_of(study)["running"] == 1
    states = run_search(experiment, search, Here(), lambda line: None)
    assert states == [] and len(runs_in(tmp_path / "runs")) == 1
    assert counts_of(study)["pruned"] == 1
    assert (search.folder / f"{search.name}.journal").exists() == (storage is None)
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
    [trial] = opened_study(search).trials
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
    [trial] = opened_study(search).trials
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
    """A sampler may draw what it has drawn; it is not run to be pruned once more."""
    tried = []

    def run(words):
        tried.append(words[-1])
        raise Pruned

    given = GIVEN | {"settings": {"pretrain.batch_size": {"choice": [32, 64]}}, "sampler": "random", "trials": 8}
    states = run_search(experiment, read_search(experiment, "mine", words, given), Here(run), lambda line: None)
    assert len(states) == 8 and sorted(tried) == ["pretrain.batch_size=32", "pretrain.batch_size=64"]
