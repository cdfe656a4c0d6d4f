"""A search: what it may go by, what is refused, and that it survives."""

import builtins
import math

import pytest
import yaml  # type: ignore[import-untyped]
from filelock import FileLock

import main as program
import sweep
from errors import UserError
from sweeps import search as searching
from sweeps.engines.here import Here
from sweeps.search import best_table, objective_of, read_search, run_search, write_plots
from tracking.runs import read_runs

WORDS = ["colored_digits", "erm", "limit=600", "pretrain.epochs=1", "threads=1", "progress=False", "valid_fraction=0.2"]
GIVEN = {
    "settings": {"pretrain.learning_rate": "default", "pretrain.batch_size": {"choice": [32, 64]}},
    "objective": "valid/model/average",
    "trials": 3,
}


@pytest.fixture
def words(tmp_path, cache_dir):
    return [*WORDS, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


@pytest.fixture
def file(tmp_path, words):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"with": words, "search": GIVEN}))
    return path


@pytest.mark.recipe
def test_a_search_goes_on_and_goes_by_held_out_images(tmp_path, file, capfd):
    assert sweep.main([str(file)]) == 0
    out = capfd.readouterr().out
    assert "best of 3 trials" in out and "best three: " in out and "oracle" not in out
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
    assert best_table(search).rows == [] and write_plots(search) == []


def test_one_process_at_a_time(experiment, words):
    search = read_search(experiment, "mine", words, GIVEN)
    search.file.parent.mkdir(parents=True)
    with FileLock(search.file.with_suffix(".lock")), pytest.raises(UserError, match="another process is at this"):
        run_search(experiment, search, Here(lambda words: None), lambda line: None)


def test_a_figure_of_held_out_images_is_not_one_of_the_test_set(tmp_path, words):
    """The summary's `valid` is a test figure in the epoch that held-out images chose."""
    assert program.main(["with", *words]) == 0
    (run,) = read_runs(tmp_path / "runs")
    assert objective_of(run, "model/average/valid") == run.summary["model/average/valid"]
    held_out = objective_of(run, "valid/model/average")
    assert held_out is not None and math.isclose(held_out * 1.2, round(held_out * 1.2), abs_tol=1e-6), "120 images"
    assert objective_of(run, "valid/target/average") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": "model/unbiased/oracle"}, "a figure of the test set; .* say `oracle: true`"),
        ({"objective": "model/unbiased/valid"}, "a figure of the test set"),
        ({"objective": "model/unbiased/last"}, "a figure of the test set"),
        ({"objective": "valid/model/unbiased"}, "bias labels of held-out images are not read"),
        ({"objective": "model/unbiast/last", "oracle": True}, "with one of unbiased"),
        ({"objective": None}, "write valid/<read-out>/average"),
        ({"settings": {}}, "settings names what is searched"),
        ({"settings": {"pretrain.learning_rat": "default"}}, "did you mean pretrain.learning_rate"),
        ({"settings": {"pretrain.network": {"log": [1, 2]}}}, "setting pretrain.network: 1 is not accepted"),
        ({"settings": {"pretrain.network": {"uniform": ["mlp3", "mlp5"]}}}, "is no number, so it has no range"),
        ({"settings": {"pretrain.learning_rate": {"log": [0, 1]}}}, "the smaller first and above 0"),
        ({"settings": {"pretrain.learning_rate": {"uniform": [1]}}}, "needs two numbers"),
        ({"settings": {"pretrain.learning_rate": {"between": [1, 2]}}}, "write default, or one of log"),
        ({"settings": {"threads": "default"}}, "has no range of its own"),
        ({"sampler": "tpr"}, "did you mean tpe"),
        ({"sampler": "grid"}, "needs a choice of values for every setting"),
        ({"objective": "model/unbiased/oracle", "oracle": "false"}, "true or false, without quotes"),
        ({"objective": "model/unbiased/lastfoo", "oracle": True}, "with one of unbiased"),
        ({"seed": "abc"}, "seed='abc': a whole number"),
        ({"settings": {"limit": {"uniform": [None, 100]}}}, "needs two numbers"),
        ({"trials": 0}, "a whole number of at least 1"),
        ({"tirals": 3}, "did you mean trials"),
    ],
)
def test_what_is_refused(experiment, words, change, says):
    with pytest.raises(UserError, match=says) as caught:
        read_search(experiment, "mine", words, GIVEN | change)
    assert "\n" not in str(caught.value)


def test_held_out_images_are_needed(experiment, words):
    with pytest.raises(UserError, match="set valid_fraction"):
        read_search(experiment, "mine", [*words, "valid_fraction=0.0"], GIVEN)


def test_a_test_figure_is_marked(experiment, words, tmp_path):
    search = read_search(experiment, "mine", words, GIVEN | {"objective": "model/unbiased/last", "oracle": True})
    search.file.parent.mkdir(parents=True)
    assert any("chosen on the test set" in note for note in best_table(search).notes)


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
    optuna = searching._optuna()
    kinds = [type(searching._distribution(optuna, path, value)).__name__ for path, value in search.ranges.items()]
    assert kinds == ["FloatDistribution", "IntDistribution", "CategoricalDistribution"]
