"""A single setting: what it takes, its default here and there, and that all declared ones are sound."""

import math

import pytest

from catalogue import documentation, known_settings
from data.registry import DATASETS
from errors import UserError
from settings import Setting, nearest
from stages.recipes import RECIPES

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
        (Setting(1, ""), 10**400, 10**400),
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


def test_a_table_of_small_budgets():
    setting = Setting(1, "", at={"erm": 2}, quick={"set": 3, ("erm", "set"): 4})
    found = [setting.default_for(method, name, quick=True) for method, name in
             (("erm", "set"), ("lff", "set"), ("erm", "other"), ("lff", "other"))]  # fmt: skip
    assert found == [4, 3, 2, 1]
    assert setting.default_for("erm", "set") == 2


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
    setting = Setting(1, "", quick=9, at={"erm": 2, "digits": 3, ("erm", "digits"): 4, ("erm", "mnist"): 5})
    assert setting.default_for("other", "other") == 1
    assert setting.default_for("erm", "other") == 2
    assert setting.default_for("other", "digits") == 3
    assert setting.default_for("erm", "digits") == 4
    assert setting.default_for("erm", "mnist") == 5
    assert setting.default_for("erm", "digits", quick=True) == 9
    assert setting.default_for(["pretrain"], "digits") == 3
    assert Setting(1, "", at={"erm": 2}).default_for("erm", "digits", quick=True) == 2


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
    names = {key for keys in setting.at for key in (keys if isinstance(keys, tuple) else (keys,))}
    assert names <= {*RECIPES, *DATASETS}
    for method in (*RECIPES, None):
        for dataset in DATASETS:
            for quick in (False, True):
                default = setting.default_for(method, dataset, quick)
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
