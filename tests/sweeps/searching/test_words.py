"""A search that is given on the command line alone."""

import pytest

from debias import sweep
from debias.errors import UserError
from debias.sweeps.searching.spec import read_search
from debias.sweeps.searching.words import search_words
from debias.tracking.folders import read_runs
from tests.sweeps.small import SEARCH

OBJECTIVE = "search.objective=valid/model/average"


def test_words_say_what_a_file_says(experiment, tmp_path):
    words = [*SEARCH, f"store={tmp_path}"]
    name, common, given = search_words(
        [*words, "search.pretrain.learning_rate=log:0.001,0.1", "search.pretrain.batch_size=choice:32,64", OBJECTIVE,
         "search.pretrain.weight_decay=default", "search.trials=7", "search.seed=3", "search.name=mine"]
    )  # fmt: skip
    found = read_search(experiment, name, common, given)
    file = {
        "settings": {
            "pretrain.learning_rate": {"log": [0.001, 0.1]},
            "pretrain.batch_size": {"choice": [32, 64]},
            "pretrain.weight_decay": "default",
        },
        "objective": "valid/model/average",
        "trials": 7,
        "seed": 3,
    }
    assert found == read_search(experiment, "mine", words, file)
    assert found.storage == str(tmp_path / "sweeps" / "mine.journal")


@pytest.mark.recipe
def test_it_runs_and_goes_on(tmp_path, cache_dir, capfd):
    store = tmp_path / "runs"
    words = [*SEARCH, f"store={store}", f"cache_dir={cache_dir}", OBJECTIVE, "search.trials=2"]
    assert sweep.main(["with", *words, "search.pretrain.learning_rate=default"]) == 0
    assert "search: best of 2 trials" in capfd.readouterr().out
    assert sweep.main(["with", *words, "search.pretrain.learning_rate=default"]) == 0
    assert "2 of them finished before" in capfd.readouterr().err
    assert len(list(read_runs(store))) == 2


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("search.trials", "write search.trials=30"),
        ("search.name=../mine", "a name is letters"),
        ("search.pretrain.batch_size=32,64", "write default, or one of log, uniform, choice"),
        ("search.pretrain.batch_size=lag:32,64", "write default, or one of log, uniform, choice"),
    ],
)
def test_words_that_say_nothing(word, says):
    with pytest.raises(UserError, match=says):
        search_words(["colored_digits", word])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("search.trails=3", "did you mean trials?"),
        ("search.pretrain.network=log:1,2", "network"),
        ("search.trials=0", "a whole number of at least 1"),
    ],
)
def test_what_a_file_may_not_say(word, says, capsys):
    words = ["with", *SEARCH, OBJECTIVE, "search.pretrain.learning_rate=default", word]
    assert sweep.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and says in err
