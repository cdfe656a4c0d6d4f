"""From a YAML file or a command line to trials; what is refused before any of them starts."""

import pytest

from debias.errors import UserError
from debias.stages.recipes import RECIPES
from debias.sweeps.plan import common_words, configured, read_document, read_plan, run_key, words_plan
from debias.sweeps.searching.spec import read_search
from debias.training.code import ROOT
from tests.sweeps.small import SMALL


def test_every_combination_in_order(experiment):
    plan = words_plan(experiment, ["colored_digits", "method=erm,denetdm", "seed=1..3", "quick"])
    assert [trial.label for trial in plan.trials] == [
        f"method={method} seed={seed}" for method in ("erm", "denetdm") for seed in (1, 2, 3)
    ]
    assert plan.trials[0].words == ("colored_digits", "quick", "method='erm'", "seed=1")


def test_a_file_says_the_same_as_words(experiment, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "with: [colored_digits, quick]\ngrid:\n  method: [erm, denetdm]\n  skew: [0.01, 0.05]\n  seed: 1..2\n"
    )
    words = ["colored_digits", "quick", "method=erm,denetdm", "skew=0.01,0.05", "seed=1,2"]
    plan, other = read_plan(experiment, path), words_plan(experiment, words)
    assert plan.name == "mine" and len(plan.trials) == 8
    assert [trial.key for trial in plan.trials] == [trial.key for trial in other.trials]


def test_named_configs_make_a_grid(experiment, tmp_path):
    """By their kind in a file, by themselves on a command line; the same trials as their settings."""
    path = tmp_path / "mine.yaml"
    path.write_text("with: [colored_digits]\ngrid:\n  skew: [skewed1, skewed3]\n  protocol: [null, reference]\n")
    plan = read_plan(experiment, path)
    assert [trial.words for trial in plan.trials] == [
        ("colored_digits", "skewed1"), ("colored_digits", "skewed1", "reference"),
        ("colored_digits", "skewed3"), ("colored_digits", "skewed3", "reference"),
    ]  # fmt: skip
    keys = [trial.key for trial in plan.trials]
    other = words_plan(experiment, ["colored_digits", "skewed1,skewed3", "distill.teacher=mean,oracle"])
    assert [trial.key for trial in other.trials] == keys
    both = words_plan(experiment, ["colored_digits", "erm,denetdm", "seed=1,2"])
    assert both.trials[0].label == "method=erm seed=1" and len(both.trials) == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["colored_digits", "skewed1,skewd3"], "skewed1,skewd3: no named config is called 'skewd3'; did you mean"),
        (["colored_digits", "skewed1,erm"], "skewed1,erm: these are not of one kind"),
    ],
)
def test_named_configs_that_make_no_grid(experiment, words, says):
    with pytest.raises(UserError, match=says):
        words_plan(experiment, words)


def test_a_list_of_stages_is_one_value(experiment):
    plan = words_plan(experiment, ["colored_digits", "method=[branches, mine_depth, prune, finetune]", "seed=1,2"])
    assert len(plan.trials) == 2


def test_trials_that_differ_in_nothing_are_one(experiment):
    # erm has no stage `branches`, and threads decide no figure
    assert len(words_plan(experiment, ["colored_digits", "erm", "branches.epochs=1,2"]).trials) == 1
    assert len(words_plan(experiment, ["colored_digits", "erm", "threads=1,2"]).trials) == 1
    assert len(words_plan(experiment, ["colored_digits", "erm", "pretrain.epochs=1,2"]).trials) == 2


def test_the_key_knows_settings_that_an_older_record_lacks(configured):
    config = configured("colored_mnist", "skewed3", "denetdm", "seed=4")
    older = {name: value for name, value in config.items() if name not in ("rho", "variance")}
    older["distill"] = {name: value for name, value in config["distill"].items() if name != "beta2"}
    assert run_key(older) == run_key(config)
    assert run_key(config | {"seed": 5}) != run_key(config)
    assert run_key(config | {"store": "elsewhere"}) == run_key(config)


def test_the_share_may_be_said_either_way(configured):
    """A record has the skew alone."""
    said = configured("biased_mnist", "end", "rho=0.99")
    assert run_key(said) == run_key(configured("biased_mnist", "end", "skew=0.01"))
    assert run_key({name: value for name, value in said.items() if name != "rho"} | {"skew": 0.01}) == run_key(said)


def test_other_folders_of_own_images_are_other_trials(experiment):
    assert len(words_plan(experiment, ["own_images", "erm", "data_dir=one,two"]).trials) == 2
    assert len(words_plan(experiment, ["colored_mnist", "erm", "data_dir=one,two"]).trials) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("with: [colored_digits]\ngrid: {sead: [1, 2]}", "grid: no setting is called 'sead'; did you mean seed?"),
        ("with: [colored_digits]\ngrid: {seed: []}", "grid: seed has no values"),
        ("with: [colored_digits]\ngrid: {}", "the grid is empty"),
        ("with: [colored_digits]\ngrid: {protocol: [refrence]}", "did you mean reference?"),
        ("with: [colored_digits]\ngrid:", "the grid is empty"),
        ("with: [colored_digits]\ngrid: {seed: 3..1}", "an empty range"),
        ("with: [colored_digits]\ngrid: {method: 1..3x}", "method needs a list of values, or a range"),
        ("with: [colored_digits]\ngrid: {method: [erm, denetdn]}", "did you mean denetdm?"),
        ("with: [colored_digits]\ngrid: {skew: [0.1, 2]}", "skew=2: setting skew: 2.0 is out of range"),
        ("with: [colored_digit]", "no named config is called 'colored_digit'; did you mean colored_digits?"),
        ("gird: {seed: [1]}", "nothing is known of 'gird'; did you mean grid?"),
        ("- seed", "a sweep has the keys with, grid, search"),
        ("with: {seed: 1}", "`with` is a list of words"),
        ("grid: [", "not YAML"),
        ("with: " + "[" * 5000, "not YAML of a sane depth"),
        ("with: [2024-13-45]", "not YAML (month must be in 1..12)"),
        ("with: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_what_is_refused(experiment, tmp_path, text, says):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_plan(experiment, path)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(experiment, tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no sweep can be read"):
        read_plan(experiment, tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_sweeps_are_whole(experiment, path):
    document = read_document(path)
    if "search" in document:
        assert read_search(experiment, path.stem, common_words(path, document), document["search"]).trials > 1
        return
    plan = read_plan(experiment, path)
    assert len(plan.trials) > 1
    assert str(plan.store) == "runs"


def test_the_small_sweep_of_these_tests(experiment):
    assert len(words_plan(experiment, SMALL).trials) == 8


def test_all_methods_are_compared(experiment):
    """On images alone; what balances two modalities has nothing to do there."""
    plan = read_plan(experiment, ROOT / "sweeps" / "compare_all.yaml")
    methods = {configured(experiment, trial.words)["method"] for trial in plan.trials}
    # Methods that change their training images on purpose are compared among themselves.
    changing = {name for name, recipe in RECIPES.items() if {"transfer", "augmented"} & set(recipe.stages)}
    assert methods == set(RECIPES) - {"fisher"} - changing
    assert len(plan.trials) == 3 * len(methods)
