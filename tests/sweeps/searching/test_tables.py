"""What is shown of a search: tables, means, counts, the best trial's command; older searches; nothing heavy loaded."""

import shutil
import subprocess
import sys

import optuna
import pytest
from matplotlib.image import imread

from debias import results
from debias.errors import UserError
from debias.sweeps.searching.search import opened_study
from debias.sweeps.searching.spec import read_search
from debias.sweeps.searching.tables import best_table
from debias.training.code import ROOT
from tests.sweeps.small import SEARCH

GIVEN = {
    "settings": {"pretrain.learning_rate": "default", "pretrain.batch_size": {"choice": [32, 64]}},
    "objective": "valid/model/average",
}
VALUES = [50.0, 60.0, 70.0, 80.0, 90.0, 55.0, 65.0, 75.0, 85.0, 95.0, 91.0]


@pytest.fixture
def study_of(experiment, tmp_path):
    """A study with eleven finished trials, one that was pruned and one that failed."""

    def study_of(name="mine", words=("mongo_url=mongodb://me:secret@host/db",), **change):
        search = read_search(experiment, name, [*SEARCH, f"store={tmp_path}", *words], GIVEN | change)
        search.folder.mkdir(exist_ok=True)
        study = opened_study(search)
        ranges = {
            "pretrain.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
            "pretrain.batch_size": optuna.distributions.CategoricalDistribution([32, 64]),
        }
        states = optuna.trial.TrialState
        for number, value in enumerate([*VALUES, 20.0, None]):
            state = states.FAIL if value is None else states.PRUNED if value == 20.0 else states.COMPLETE
            own = {"run": f"runs/{number + 1}", "tested": value / 10} if state == states.COMPLETE else {}
            study.add_trial(
                optuna.trial.create_trial(
                    value=value, state=state, distributions=ranges, user_attrs=own,
                    params={"pretrain.learning_rate": 0.001 + number / 2000, "pretrain.batch_size": 32 << number % 2},
                    intermediate_values={1: 10.0, 3: value} if state == states.PRUNED else {},
                )
            )  # fmt: skip
        return study

    return study_of


def show(capsys, *words):
    status = results.main(["search", *words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_table(study_of, tmp_path, canvases, capsys):
    study_of()
    status, out, _ = show(capsys, "mine", "--store", str(tmp_path))
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["10", "0.0055", "64", "95.00", "9.50", "finished", "runs/10"] in lines
    assert ["12", "0.0065", "64", "20.00", "–", "pruned", "in", "epoch", "3", "–"] in lines
    assert "11 finished, 1 pruned, 1 failed" in out
    # Of 95, 91 and 90: the spread of all three, as EnD has it.
    assert "best 3: 92.00 ± 2.16 valid/model/average, 9.20 ± 0.22 on the test set" in out
    assert "best: trial 10, runs/10" in out and "oracle" not in out
    assert "secret" not in out
    again = next(line for line in out.splitlines() if line.startswith("again: python main.py with colored_digits erm "))
    assert again.endswith("pretrain.learning_rate=0.0055 pretrain.batch_size=64")
    assert "what mattered" in out
    for what in ("history", "importance"):
        path = tmp_path / "sweeps" / f"mine-{what}.png"
        assert f"picture: {path}" in out and imread(path).shape[1] == 900
    assert "best 2: 93.00 ± 2.00" in show(capsys, "mine", "--store", str(tmp_path), "--top", "2")[1]
    assert "95.00,9.50,finished,runs/10" in show(capsys, "mine.yaml", "--store", str(tmp_path), "--format", "csv")[1]


def test_figures_of_the_test_set_are_marked_everywhere(study_of, tmp_path, capsys):
    study_of(objective="model/unbiased/last", oracle=True)
    out = show(capsys, "mine", "--store", str(tmp_path))[1]
    assert "mine: best of 11 trials, % (oracle: by test images)" in out
    assert "oracle: these settings were chosen on the test set" in out
    assert "model/unbiased/last (oracle)" in show(capsys, "--store", str(tmp_path))[1]


def test_the_searches_of_a_store(study_of, tmp_path, capsys):
    study_of()
    study_of("other", storage=f"sqlite:///{tmp_path / 'x.db'}")
    (tmp_path / "sweeps" / "bad.journal").write_text("what?\nwhat?\n")
    status, out, _ = show(capsys, "--store", str(tmp_path))
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    for name in ("mine", "other"):
        assert [name, "11", "1", "1", "95.00", "valid/model/average"] in lines
    assert "no search can be read from it" in out
    assert show(capsys, "other", "--store", str(tmp_path))[0] == 0


def test_searches_of_older_versions_are_shown(study_of, tmp_path, capsys):
    """They say neither what they go by nor how a trial was run."""
    new = study_of()
    old = tmp_path / "sweeps" / "old.journal"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(old)))
    study = optuna.create_study(study_name="sweep", storage=storage, direction="maximize")
    for trial in new.trials:
        trial.user_attrs.clear()
        study.add_trial(trial)
    status, out, err = show(capsys, "old", "--store", str(tmp_path))
    assert (status, err) == (0, "")
    assert "best 3: 92.00 ± 2.16 objective" in out and "its command is not kept" in out
    assert show(capsys, "--store", str(tmp_path))[1].count("95.00") == 2


def test_a_search_without_finished_trials(experiment, tmp_path):
    search = read_search(experiment, "mine", [*SEARCH, f"store={tmp_path}"], GIVEN)
    search.folder.mkdir()
    table = best_table(opened_study(search), "mine")
    assert list(table.rows) == [] and list(table.notes) == ["0 finished"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mien"], "has no search 'mien'; did you mean mine?; it has mine"),
        (["mine", "other"], "one search at a time"),
        (["mine", "--top", "0"], "--top: a whole number of at least 1"),
        (["mine", "--storage", "postgresql://me:secret@127.0.0.1:1/db"], "postgresql://127.0.0.1:1/db: cannot be used"),
        (["mine", "--storage", "sqlite:////nowhere.db"], "there is no such file"),
    ],
)
def test_what_is_refused(study_of, tmp_path, capsys, words, says):
    study_of()
    status, out, err = show(capsys, *words, "--store", str(tmp_path))
    assert status == 2 and out == "" and err.count("\n") == 1 and says in err and "secret" not in err


def test_nothing_heavy_is_loaded(study_of, tmp_path):
    """A table of a store is a matter of a second, wherever it is read."""
    study_of()
    code = (
        "import sys, results; "
        f"assert results.main(['search', 'mine', '--store', {str(tmp_path)!r}]) == 0; "
        "heavy = ('torch', 'sacred', 'pandas', 'debias.config', 'debias.stages.recipes'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_store_that_was_moved_is_shown(study_of, tmp_path, capsys):
    study_of()
    shutil.copytree(tmp_path / "sweeps", tmp_path / "moved" / "sweeps")
    status, out, _ = show(capsys, "mine", "--store", str(tmp_path / "moved"))
    assert status == 0 and str(tmp_path / "moved" / "sweeps" / "mine-history.png") in out


def test_an_unknown_store_is_one_line(tmp_path, capsys):
    status, _, err = show(capsys, "mine", "--store", str(tmp_path / "none"))
    assert status == 2 and "none has no search 'mine'" in err
    with pytest.raises(UserError, match="no searches in"):
        results.PROGRAM.main(["search", "--store", str(tmp_path / "none")])
