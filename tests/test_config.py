"""What may be set, what is refused and how, and what goes before what."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest

from debias.catalogue import RUN_SETTINGS, known_settings
from debias.config import NAMED_CONFIGS, Defaults, check_settings, resolve
from debias.data.registry import DATASETS
from debias.errors import UserError
from debias.stages.recipes import RECIPES, STAGES


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sed=1"], ["'sed'", "did you mean seed?"]),
        (["Seed=1"], ["did you mean seed?"]),
        (["pretrain.epoch=3"], ["'pretrain.epoch'", "did you mean pretrain.epochs?"]),
        (["pretain.epochs=3"], ["did you mean pretrain.epochs?"]),
        (["pretrain.epochs.first=3"], ["'pretrain.epochs.first'"]),
        (['pretrain={"epoch": 3}'], ["did you mean pretrain.epochs?"]),
        (["colored_mnits"], ["no named config", "did you mean colored_mnist?"]),
        (["skewd2"], ["did you mean skewed2?"]),
        (["dataset=colored_mnits"], ["dataset", "did you mean colored_mnist?"]),
        (["method=denetmd"], ["method", "did you mean denetdm?"]),
        (["method=[branches, distil]"], ["'distil'", "did you mean distill?"]),
        (["optimiser=adamv"], ["optimiser", "did you mean adam"]),
        (["zzzzzzzz=1"], ["'zzzzzzzz'", "print_config"]),
        (["config.json"], ["no named config", "help"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(configured, words, parts):
    with pytest.raises(UserError) as refused:
        configured(*words)
    for part in parts:
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("word", "accepted"),
    [
        ("skew=high", "a number from 0 to 1"),
        ("skew='0.1'", "a number from 0 to 1"),
        ("skew=1.01", "a number from 0 to 1"),
        ("skew=-0.01", "a number from 0 to 1"),
        ("skew=nan", "a number from 0 to 1"),
        ("skew=True", "a number from 0 to 1"),
        ("skew=[0.1]", "a number from 0 to 1"),
        ("pretrain.learning_rate=1e999", "a number of at least 0"),
        ("pretrain.epochs=0", "a whole number of at least 1"),
        ("pretrain.epochs=1.5", "a whole number of at least 1"),
        ("pretrain.epochs=True", "a whole number of at least 1"),
        ("pretrain.epochs=None", "a whole number of at least 1"),
        ("seed=-1", "a whole number from 0 to 4294967295"),
        ("seed=4294967296", "a whole number from 0 to 4294967295"),
        ("seed=None", "a whole number"),
        ("severity=6", "a whole number from 0 to 5"),
        ("type=2", "one of 0, 1"),
        ("limit=59", "a whole number of at least 60 or None"),
        ("valid_fraction=0.91", "a number from 0 to 0.9"),
        ("reverse=1", "True or False"),
        ("reverse=true", "True or False"),
        ("fresh=None", "True or False"),
        ("device=3", "a text"),
        ("store=None", "a text"),
        ("data_dir=3", "a text or None"),
        ("method=3", "neither a recipe nor a list of stages"),
        ('method=["branches", 3]', "neither a recipe nor a list of stages"),
        ("method=[]", "empty list of stages"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_accepted(configured, word, accepted):
    with pytest.raises(UserError) as refused:
        configured(word)
    assert word.partition("=")[0] in str(refused.value)
    assert accepted in str(refused.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_in_every_setting(configured, value):
    """A command line can hardly spell NaN, but a sweep or a script can pass it."""
    config = configured("everything=True")
    for path, setting in known_settings().items():
        if isinstance(setting.default, float):
            group, _, name = path.rpartition(".")
            changed = {**config, group: {**config[group], name: value}} if group else {**config, name: value}
            with pytest.raises(UserError, match=path):
                check_settings(changed)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("value", ["3", "None", "[1, 2]", "text"])
def test_a_group_given_as_one_value(configured, stage, value):
    with pytest.raises(UserError, match=f"{stage} is a group of settings: give one of them"):
        configured(f"{stage}={value}")


@pytest.mark.parametrize("kind", [kind for kind, names in NAMED_CONFIGS.items() if len(names) > 1])
def test_two_named_configs_of_a_kind_exclude_each_other(configured, kind):
    one, other = list(NAMED_CONFIGS[kind])[:2]
    with pytest.raises(UserError, match=f"two {kind}s are given: {one} and {other}"):
        configured(one, other)
    configured(one, one)


def test_a_data_set_for_every_name_the_papers_use():
    assert {"colored_mnist", "corrupted_cifar10", "bffhq"} <= set(DATASETS)


@pytest.mark.parametrize(
    ("name", "value"), [("skewed0", 0.9), ("skewed1", 0.05), ("skewed2", 0.02), ("skewed3", 0.01), ("skewed4", 0.005)]
)
def test_the_skews(configured, name, value):
    assert configured(name)["skew"] == value


@pytest.mark.parametrize(
    ("name", "rho", "skew"), [("rho999", 0.999, 0.001), ("rho997", 0.997, 0.003), ("rho995", 0.995, 0.005),
                              ("rho990", 0.99, 0.01)]
)  # fmt: skip
def test_rho_is_the_skew_said_the_other_way(configured, tiny, name, rho, skew):
    for settings in (configured(name), configured("biased_mnist", name), tiny(f"rho={rho}", "skew=0.05")):
        assert (settings["rho"], settings["skew"]) == (rho, skew)
    with pytest.raises(UserError, match="two skews are given"):
        configured(name, "skewed2")
    assert configured(f"rho={rho}", f"skew={skew}")["skew"] == skew
    with pytest.raises(UserError, match=f"rho={rho:g} and skew=0.2 contradict each other"):
        configured(name, "skew=0.2")


@pytest.mark.parametrize("value", ["-0.001", "1.001", "nan"])
def test_rho_out_of_range(configured, value):
    with pytest.raises(UserError, match="setting rho: .* a number from 0 to 1 or None"):
        configured(f"rho={value}")


def test_what_biased_mnist_changes(configured):
    settings = configured("biased_mnist", "erm")
    assert (settings["skew"], settings["valid_fraction"], settings["validation"]) == (0.003, 0.1, "unbiased")
    assert settings["pretrain"]["network"] == "end_cnn"
    assert configured("biased_mnist", "erm", "quick")["pretrain"]["network"] == "end_cnn_small"
    assert configured("biased_mnist")["distill"]["network"] == "mlp5"
    weights = {words: configured("end", *words)["end"]["beta"] for words in (("biased_mnist", "quick"), ("quick",), ())}
    assert list(weights.values()) == [10.0, 0.1, 0.1]


def test_a_teacher_chosen_on_biased_images_needs_such_images(configured):
    configured("biased_digits", "validation=biased", "distill.teacher=valid")
    with pytest.raises(UserError, match="set validation=biased"):
        configured("biased_digits", "distill.teacher=valid")


def test_named_configs_set_what_they_are_called(configured):
    for name, (setting, value) in {
        "severity2": ("severity", 2),
        "type1": ("type", 1),
        "sgd": ("optimiser", "sgd"),
        "reverse": ("reverse", True),
        "quick": ("quick", True),
        "erm": ("method", "erm"),
        "colored_digits": ("dataset", "colored_digits"),
    }.items():
        assert configured(name)[setting] == value


def named_pairs() -> list[tuple[str, str]]:
    """Every two named configs of different kinds; of each data set with each method there is a test of its own."""
    kinds = [(kind, list(names)) for kind, names in NAMED_CONFIGS.items()]
    both = [two for two in itertools.combinations(kinds, 2) if {kind for kind, _ in two} != {"data set", "method"}]
    assert len(both) == len(kinds) * (len(kinds) - 1) // 2 - 1
    return [pair for (_, one), (_, other) in both for pair in itertools.product(one, other)]


def holds(config: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether all that was given is in the configuration, groups setting by setting."""
    return all(holds(config[k], v) if isinstance(v, Mapping) else config[k] == v for k, v in given.items())


def test_any_two_named_configs_go_together(configured):
    values = {name: setting for names in NAMED_CONFIGS.values() for name, setting in names.items()}
    for one, other in named_pairs():
        config = configured(one, other)
        assert holds(config, values[one]) and holds(config, values[other]), (one, other)


def test_all_combinations_of_what_defaults_depend_on():
    """Data set, method and budget, and one of every other kind with each data set and each method: a run's checks."""
    others = [[*names.values()][-1] for kind, names in NAMED_CONFIGS.items() if kind not in ("data set", "method")]
    pairs = {(dataset, method): [{}] for dataset in (None, *DATASETS) for method in (None, *RECIPES)}
    for pair in pairs:
        if None in pair:
            pairs[pair] = [{}, *others]
    for ((dataset, method), extras), quick in itertools.product(pairs.items(), [False, True]):
        given = {"quick": quick} | ({"dataset": dataset} if dataset else {}) | ({"method": method} if method else {})
        for extra in extras:
            checked = check_settings(Defaults()(fixed={**extra, **given}))
            assert checked["dataset"] == (dataset or RUN_SETTINGS["dataset"].default)
            assert checked["method"] == (method or RUN_SETTINGS["method"].default)


def test_command_line_before_named_config_before_default(configured):
    assert configured()["skew"] == RUN_SETTINGS["skew"].default
    assert configured("skewed3")["skew"] == 0.01
    assert configured("skewed3", "skew=0.3")["skew"] == 0.3
    assert configured("skew=0.3", "skewed3")["skew"] == 0.3
    assert configured("skewed3", "seed=7")["skew"] == 0.01


@pytest.mark.parametrize("quick", ["quick", "quick=True"])
def test_quick_changes_budgets_and_an_explicit_budget_wins(configured, quick):
    plain, short = configured("everything=True"), configured("everything=True", quick)
    explicit = configured("everything=True", "pretrain.epochs=77", quick)
    assert explicit["pretrain"]["epochs"] == 77
    for stage in STAGES.values():
        for name, setting in stage.settings.items():
            expected = plain[stage.name][name] if setting.quick is None else setting.quick
            assert short[stage.name][name] == expected, f"{stage.name}.{name}"
            if (stage.name, name) != ("pretrain", "epochs"):
                assert explicit[stage.name][name] == expected
        if "epochs" in stage.settings:
            assert short[stage.name]["epochs"] <= min(20, plain[stage.name]["epochs"])
    changed = {name for name in RUN_SETTINGS if plain[name] != short[name]}
    assert changed == {"quick"}


def test_a_setting_of_a_group_leaves_the_rest_of_the_group(configured):
    plain, changed = configured()["distill"], configured("distill.temperature=3.5")["distill"]
    assert changed == {**plain, "temperature": 3.5}


def test_a_whole_number_for_a_number(tiny):
    settings = tiny("skew=1")
    assert settings["skew"] == 1.0
    assert type(settings["skew"]) is float


@pytest.mark.parametrize(
    "word", ["method=[branches,distill]", "method=[ branches , 'distill' ]", 'method=["branches","distill"]']
)
def test_a_list_of_stages(tiny, word):
    assert tiny(word)["method"] == ["branches", "distill"]


@pytest.mark.parametrize(
    ("word", "environment", "expected"),
    [
        (None, None, None),
        (None, "", None),
        (None, "/from/env", "/from/env"),
        ("data_dir=/given", "/from/env", "/given"),
    ],
)
def test_the_data_folder(configured, monkeypatch, word, environment, expected):
    monkeypatch.delenv("DATA_DIR", raising=False)
    if environment is not None:
        monkeypatch.setenv("DATA_DIR", environment)
    assert resolve(configured(*([word] if word else [])))["data_dir"] == expected


def test_a_stage_whose_need_nobody_fills(configured):
    with pytest.raises(UserError, match="stage distill needs branches, which no earlier stage gives; branches would"):
        configured("method=[distill]")


def test_an_experiment_does_not_remember_the_run_before(configured):
    plain = configured()
    configured("skewed4", "quick", "pretrain.epochs=3")
    assert configured() == plain
