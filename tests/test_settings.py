"""A single setting: what it takes, its default here and there, and that all declared ones are sound."""

import math

import pytest

from debias.catalogue import concerns, decides, default_for, documentation, known_settings
from debias.data.kinds import KINDS
from debias.data.registry import DATASETS
from debias.data.settings import DATA_SETTINGS
from debias.errors import UserError
from debias.settings import Setting, nearest
from debias.stages.recipes import RECIPES

KNOWN = known_settings()


@pytest.mark.parametrize(
    ("setting", "value", "checked"),
    [
        (Setting(1.0, ""), 2, 2.0),
        (Setting(1, ""), 2, 2),
        (Setting(1, "", low=1, high=3), 1, 1),
        (Setting(1, "", low=1, high=3), 3, 3),
        (Setting(None, "", optional=True, kind=int), None, None),
        (Setting(None, "", optional=True, kind=float), 2, 2.0),
        (Setting("a", "", choices=("a", "b")), "b", "b"),
        (Setting(None, "", kind=object, optional=True), ["x"], ["x"]),
        (Setting(1, ""), 2**31 - 1, 2**31 - 1),
    ],
)
def test_what_is_taken(setting, value, checked):
    assert setting.check("name", value) == checked
    assert type(setting.check("name", value)) is type(checked)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (Setting(1.0, ""), "2"),
        (Setting(1.0, ""), True),
        (Setting(1.0, ""), None),
        (Setting(1.0, ""), math.nan),
        (Setting(1.0, ""), math.inf),
        (Setting(1.0, "", low=0), -1e-9),
        (Setting(1.0, "", high=1), 1.0000001),
        (Setting(1, ""), 1.0),
        (Setting(1, ""), True),
        (Setting(True, ""), 1),
        (Setting("a", ""), b"a"),
        (Setting("a", "", choices=("a", "b")), "c"),
        (Setting(0, "", choices=(0, 1)), False),
        (Setting(None, "", optional=True, kind=str), 3),
    ],
)
def test_what_is_refused(setting, value):
    with pytest.raises(UserError, match=r"setting group\.name: "):
        setting.check("group.name", value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (Setting(1, "", low=0, high=2**32 - 1), "a whole number from 0 to 4294967295"),
        (Setting(1.0, "", low=1e-3), "a number of at least 0.001"),
        (Setting(1.0, "", low=0, high=0.5), "a number from 0 to 0.5"),
        (Setting(1.0, ""), "a number"),
        (Setting(None, "", optional=True, kind=str), "a text or None"),
        (Setting(False, ""), "True or False"),
        (Setting("a", "", choices=("a", "b")), "one of a, b"),
    ],
)
def test_what_is_accepted_in_words(setting, words):
    assert setting.accepted() == words


def test_the_most_specific_default_wins():
    # Pre-training steps: the stage's own, DCWP's, and of its method on photographs another learning rate.
    assert default_for("pretrain.steps", "erm", "colored_mnist") == 0
    assert default_for("pretrain.steps", "dcwp", "colored_mnist") == 10_000
    assert default_for("pretrain.learning_rate", "erm", "colored_mnist") == 1e-3  # the stage's
    assert default_for("pretrain.learning_rate", "erm", "bffhq") == 1e-4  # photographs'
    assert default_for("pretrain.learning_rate", "dcwp", "colored_mnist") == 1e-2  # the method's
    assert default_for("pretrain.learning_rate", "dcwp", "bffhq") == 1e-3  # the method's on photographs
    assert default_for("pretrain.learning_rate", "dcwp", "celeba") == 1e-4  # the method's on CelebA
    assert default_for("pretrain.learning_rate", ["pretrain"], "bffhq") == 1e-4
    # A small budget of the stage's own goes before all; a data set's small network before the method's.
    assert default_for("pretrain.steps", "dcwp", "colored_mnist", quick=True) == 0
    assert default_for("pretrain.network", "dcwp", "bffhq", quick=True) == "resnet18"
    assert default_for("pretrain.network", "dcwp", "colored_mnist", quick=True) == "cnn"
    # A setting that follows the data takes what the data set brings for every stage; another does not.
    assert default_for("lff.network", "lff", "biased_mnist") == "end_cnn"
    assert default_for("distill.network", "denetdm", "biased_mnist") == "mlp5"


def test_what_recipes_and_data_sets_bring_are_settings_that_there_are():
    brought = {
        *(path for recipe in RECIPES.values() for path in recipe.values),
        *(path for recipe in RECIPES.values() for other in recipe.on.values() for path in other.values),
        *(path for spec in DATASETS.values() for path in (*spec.defaults, *spec.quick)),
        *(path for kind in KINDS.values() for path in (*kind.defaults, *kind.quick)),
    }
    follows = {setting.follows for setting in KNOWN.values()}
    assert brought <= {*KNOWN, *follows}
    assert {name for recipe in RECIPES.values() for name in recipe.on} <= {*KINDS, *DATASETS}
    for name, recipe in RECIPES.items():
        used = {
            stage
            for stages in (recipe.stages, *(other.stages or () for other in recipe.on.values()))
            for stage in stages
        }
        for values in (recipe.values, *(other.values for other in recipe.on.values())):
            assert {path.partition(".")[0] for path in values if "." in path} <= used, name


def test_settings_that_data_sets_own_are_settings_of_the_data():
    for spec in DATASETS.values():
        assert {*spec.settings, *spec.kind.settings} <= set(DATA_SETTINGS)
    for path in ("severity", "labels", "variance"):
        assert sum(spec.has(path) for spec in DATASETS.values()) < len(DATASETS)
    assert not concerns("severity", "erm", "bffhq") and concerns("severity", "erm", "colored_mnist")
    assert concerns("pretrain.steps", "erm", "bffhq") and not concerns("prune.steps", "erm", "bffhq")
    assert not concerns("skew", "erm", "own_images") and not concerns("rho", "erm", "bar")


def test_roles_say_what_decides_figures():
    assert all(decides(path) for path in ("skew", "seed", "pretrain.epochs", "augment", "no_such_setting"))
    assert not any(decides(path) for path in ("device", "store", "progress", "rho", "streaming", "probe_on"))


def test_nearest():
    assert nearest("seeed", ["skew", "seed"]) == "; did you mean seed?"
    assert nearest("zzz", ["skew", "seed"]) == ""
    assert nearest("", ["skew"]) == ""


@pytest.mark.parametrize("path", KNOWN)
def test_every_declared_setting_is_sound(path):
    """Its defaults are values it would take, it says what it means, and a search stays inside its bounds."""
    setting = KNOWN[path]
    assert setting.help and "\n" not in setting.help
    assert documentation()[path].startswith(setting.help)
    for method in (*RECIPES, None):
        for dataset in DATASETS:
            for quick in (False, True):
                default = default_for(path, method, dataset, quick)
                assert setting.check(path, default) == default
    if setting.search is not None:
        kind, *rest = setting.search
        assert kind in ("log", "uniform", "choice")
        values = rest[0] if kind == "choice" else rest
        if kind != "choice":
            assert len(values) == 2 and values[0] < values[1]
            assert kind == "uniform" or values[0] > 0
        for value in values:
            setting.check(path, value)
