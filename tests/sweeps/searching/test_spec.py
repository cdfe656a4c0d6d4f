"""What a search may be: ranges, objectives, storages; what is refused before anything starts."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from debias import sweep
from debias.errors import UserError
from debias.sweeps.engines.here import Here
from debias.sweeps.plan import common_words, read_document, read_plan
from debias.sweeps.searching.search import opened_study, run_search
from debias.sweeps.searching.spec import deciding_stage, metric_of, read_search
from debias.sweeps.searching.words import search_words
from debias.training.code import ROOT

GIVEN = {"settings": {"pretrain.learning_rate": "default"}, "objective": "valid/model/average", "trials": 3}
ORACLE = {"objective": "model/unbiased/last", "oracle": True}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": "model/unbiased/oracle"}, "a figure of the test set; .* say `oracle: true`"),
        ({"objective": "model/unbiased/valid"}, "a figure of the test set"),
        ({"objective": "model/unbiased/last"}, "a figure of the test set"),
        ({"objective": "valid/model/unbiased"}, "bias labels of held-out images are not read; write valid/model/aver"),
        ({"objective": "model/unbiast/last", "oracle": True}, "with one of unbiased.*; did you mean model/unbiased/la"),
        ({"objective": None}, "write valid/model/average"),
        ({"objective": "vaild/model/average"}, "did you mean valid/model/average"),
        ({"objective": "valid/modl/average"}, "has such a read-out; there are model; did you mean valid/model/average"),
        ({"objective": "target/unbiased/last", "oracle": True}, "no stage of method=erm has such a read-out"),
        ({"objective": "valid_unbiased/model/average"}, "held-out images of this run are called valid$"),
        ({"objective": "model/unbiased/valid_given", "oracle": True}, "and of last, mean, oracle, valid"),
        ({"settings": {}}, "settings names what is searched"),
        ({"settings": {"pretrain.learning_rat": "default"}}, "did you mean pretrain.learning_rate"),
        ({"settings": {"pretrain.network": {"log": [1, 2]}}}, "setting pretrain.network: 1 is not accepted"),
        ({"settings": {"pretrain.network": {"uniform": ["mlp3", "mlp5"]}}}, "is not a number, so it has no range"),
        ({"settings": {"pretrain.learning_rate": {"log": [0, 1]}}}, "the smaller first and above 0"),
        ({"settings": {"pretrain.learning_rate": {"uniform": [1]}}}, "needs two numbers"),
        ({"settings": {"pretrain.learning_rate": {"between": [1, 2]}}}, "write default, or one of log"),
        ({"settings": {"threads": "default"}}, "has no range of its own"),
        ({"settings": {"threads": {"choice": [1, 2]}}}, "threads decides no figure"),
        ({"settings": {"lff.q": "default"}}, "lff.q: method=erm has no stage lff; its stages are pretrain"),
        ({"sampler": "tpr"}, "did you mean tpe"),
        ({"sampler": "grid"}, "needs a choice of values for every setting"),
        ({"pruner": "medain"}, "pruner='medain': one of none, median, halving, hyperband; did you mean median"),
        ({"pruner": True}, "pruner=True: one of none"),
        ({"objective": "model/unbiased/oracle", "oracle": "false"}, "true or false, without quotes"),
        ({"objective": "model/unbiased/lastfoo", "oracle": True}, "with one of unbiased"),
        ({"seed": "abc"}, "seed='abc': a whole number"),
        ({"settings": {"limit": {"uniform": [None, 100]}}}, "needs two numbers"),
        ({"trials": 0}, "a whole number of at least 1"),
        ({"tirals": 3}, "did you mean trials"),
        ({"storage": "searches.db"}, "storage: the address of a database, as in sqlite:///searches.db"),
        ({"storage": "postgresql://me:se'c@h/d"}, "storage: the address of a database, as in .* .% for special"),
        ({"storage": 5}, "storage: the address of a database"),
        ({"storage": "sqlite://"}, "it is lost with this process"),
        ({"storage": "sqlite:///:memory:"}, "it is lost with this process"),
    ],
)
def test_what_is_refused(experiment, words, change, says):
    with pytest.raises(UserError, match=says) as caught:
        read_search(experiment, "mine", words, GIVEN | change)
    assert "\n" not in str(caught.value)


def test_what_is_decided_before_a_searched_setting_is_refused(experiment, words):
    """`model` is what pre-training gives: the same for every way of fine-tuning."""
    given = GIVEN | {"settings": {"finetune.upweight": "default"}}
    with pytest.raises(UserError, match=r"decided by the stage pretrain, before finetune.* by a figure of target"):
        read_search(experiment, "mine", [*words, "method=dcwp"], given)


def test_a_setting_of_some_methods_may_be_searched_along(experiment, words):
    given = GIVEN | {"settings": {"method": {"choice": ["erm", "lff"]}, "lff.q": "default"}}
    assert read_search(experiment, "mine", words, given).trials == 3


@pytest.mark.parametrize(
    ("method", "objective", "metric"),
    [
        ("erm", "valid/model/average", "pretrain/valid/model/average"),
        ("dcwp", "valid/target/average", "finetune/valid/target/average"),
        ("dcwp", "target/unbiased/last", "finetune/target/unbiased"),
        ("dcwp", "pruned@grey/worst/oracle", "prune/pruned@grey/worst"),
        ("denetdm", "valid/shallow/average", "branches/valid/shallow/average"),
        ("depth_end", "model/unbiased/last", "end/model/unbiased"),
    ],
)
def test_the_stage_that_decides_it(configured, method, objective, metric):
    stage = deciding_stage(objective, configured("colored_digits", method))
    assert stage is not None and metric_of(objective, stage) == metric


def test_held_out_images_are_needed(experiment, words):
    with pytest.raises(UserError, match="set valid_fraction"):
        read_search(experiment, "mine", [*words, "valid_fraction=0.0"], GIVEN)


def test_held_out_images_have_the_name_of_their_data(experiment, words):
    words = ["biased_digits", *words[1:]]
    with pytest.raises(UserError, match="are called valid_unbiased"):
        read_search(experiment, "mine", words, GIVEN)
    assert read_search(experiment, "mine", words, GIVEN | {"objective": "valid_unbiased/model/average"})
    assert read_search(experiment, "mine", [*words, "validation=biased"], GIVEN)


def test_the_shipped_search_of_end_takes_each_rho(experiment):
    path = ROOT / "sweeps" / "search_end.yaml"
    document = read_document(path)
    search = read_search(experiment, path.stem, [*common_words(path, document), "rho=0.99"], document["search"])
    assert search.ranges["end.beta"] == ("uniform", 0.0, 1.0)


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("sqlite:////nowhere/at/all/searches.db", "unable to open database file"),
        ("postgresql+nodriver://me:secret@host/db?password=secret", "cannot be used"),
        ("postgresql://me:secret@host/db", "cannot be used"),
        ("nosuch://me:s3cret/x@host/db", "cannot be used"),
        ("mysql://me:secret@[host/db", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(experiment, words, tmp_path, capsys, storage, says):
    search = read_search(experiment, "mine", words, GIVEN | {"storage": storage})
    assert "secret" not in repr(search)
    with pytest.raises(UserError, match=says) as caught:
        run_search(experiment, search, Here(lambda words: None), lambda line: None)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_damaged_storage_is_one_line(experiment, words, tmp_path):
    search = read_search(experiment, "mine", words, GIVEN)
    search.folder.mkdir(parents=True)
    for content in ("what?\n", '{"op_code": 0}\n', "[]\n"):
        Path(search.storage).write_text(content)
        with pytest.raises(UserError, match="no search can be read from it"):
            opened_study(search)
    search = read_search(experiment, "mine", words, GIVEN | {"storage": f"sqlite:///{tmp_path / 'x.db'}"})
    (tmp_path / "x.db").write_text("no database" * 100)
    with pytest.raises(UserError, match="file is not a database"):
        opened_study(search)


def test_a_line_that_was_written_in_part_is_dropped(experiment, words):
    """By a machine that was lost: without that, what comes behind it would spoil the file."""
    search = read_search(experiment, "mine", words, GIVEN)
    search.folder.mkdir(parents=True)
    opened_study(search)
    with Path(search.storage).open("a") as file:
        file.write('{"op_code":4,"wor')
    opened_study(search).ask()
    assert len(opened_study(search).trials) == 1


def test_a_database_has_several_searches(experiment, words, tmp_path):
    storage = {"storage": f"sqlite:///{tmp_path / 'x.db'}"}
    one = read_search(experiment, "one", words, GIVEN | storage)
    one.folder.mkdir(parents=True)
    opened_study(one)
    opened_study(read_search(experiment, "two", words, GIVEN | storage | ORACLE))
    with pytest.raises(UserError, match="holds another search 'one'"):
        opened_study(read_search(experiment, "one", words, GIVEN | storage | ORACLE))


def test_a_dry_run_makes_nothing(tmp_path, capsys):
    assert sweep.main([str(ROOT / "sweeps" / "search_finetune.yaml"), f"store={tmp_path / 'runs'}", "--dry-run"]) == 2
    assert "this search has not begun" in capsys.readouterr().err.replace("the search 'search_finetune'", "this search")
    assert not (tmp_path / "runs").exists()


def test_the_examples_of_the_document(experiment, tmp_path):
    """A grid and a search as files, and the search in words."""
    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    grid, search = re.findall(r"(?<=\n)    with: .*\n(?:    .*\n)+", text)
    path = tmp_path / "grid.yaml"
    path.write_text(textwrap.dedent(grid))
    assert len(read_plan(experiment, path).trials) == 2 * 2 * 5 * 2, "the protocol changes both methods"
    example = yaml.safe_load(search)
    found = read_search(experiment, "mine", example["with"], example["search"])
    assert list(found.ranges) == ["finetune.upweight", "finetune.learning_rate", "prune.sampling"]
    command = re.search(r"python sweep.py with (.* search\.name=upweight)", text.replace("\\\n", " "))
    name, words, given = search_words(command[1].split())
    assert list(read_search(experiment, name, words, given).ranges) == ["finetune.upweight"]
