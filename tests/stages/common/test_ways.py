"""Ways to train with an operator: which are tried, what trials are asked about, and which is taken."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from debias.data.operators import CONTROL
from debias.data.properties.intervals import Share
from debias.data.properties.prediction import Predicted
from debias.stages.common.moving import Rates
from debias.stages.common.ways import (
    FALLBACK,
    Trial,
    Way,
    asked_about,
    first_of_the_best,
    margin_of,
    variants,
    ways_to_try,
)
from debias.stages.transfer import compared, without_content

OWN = {"operator": "chosen", "share": 0.0, "loss": "chosen", "least": 40.0, "most": 2}


@pytest.mark.parametrize(
    ("rates", "changed", "operators"),
    [
        # Nothing moves the answers: by too little, or less than it leaves.
        ({}, {}, []),
        ({CONTROL: (0, 100, 100), "noise": (39, 30, 90)}, {}, []),
        ({"noise": (45, 50, 90)}, {}, []),
        # By what is moved and kept.
        ({"amplitude_all": (100, 0, 60), "channel_stats": (95, 0, 90)}, {}, ["channel_stats", "amplitude_all"]),
        # A narrow one before one that takes all along, where both move about as much.
        (
            {"amplitude_all": (99, 0, None), "channel_stats": (98, 0, None), "backdrop": (97.5, 0, None)},
            {},
            ["channel_stats", "backdrop"],
        ),
        # Of one property the simplest that does about the same.
        ({"channel_means": (89, 0, None), "channel_stats": (90, 0, None)}, {}, ["channel_means"]),
        ({"channel_means": (80, 0, None), "channel_stats": (90, 0, None)}, {}, ["channel_stats"]),
        ({"border": (90, 0, 90), "noise": (80, 0, 90), "mix": (85, 0, 90)}, {"most": 1}, ["border"]),
        ({"border": (90, 0, 90), "noise": (80, 0, 90)}, {"operator": "noise"}, ["noise"]),
        # What tells the class by itself, however little moves with it; settings go before it.
        ({"border": (90, 0, 90), "blur": (20, 70, 90)}, {"named": "blur"}, ["blur", "border"]),
        ({"border": (90, 0, 90), "blur": (89, 5, 90)}, {"named": "blur"}, ["blur"]),
        (
            {"border": (90, 0, 90), "mix": (95, 0, 90), "blur": (20, 70, 90)},
            {"named": "blur", "most": 1},
            ["blur", "mix"],
        ),
        ({"border": (90, 0, 90), "blur": (20, 70, 90)}, {"named": "blur", "operator": "noise"}, ["noise"]),
    ],
)
def test_the_ways_that_are_tried(rates, changed, operators):
    own = OWN | changed
    ways = ways_to_try({name: Rates(*rate) for name, rate in rates.items()}, own, changed.get("named", ""))
    expected = [Way(name, 1.0, "plain") for name in operators]
    assert ways == [*expected, *([FALLBACK] if own["operator"] == "chosen" else [])]


def test_of_the_best_operator_half_of_the_images_is_tried_too():
    """Every way is tried, and of the operator that does best, by its least accuracy, the other variant."""
    border, blur = Way("border", 1.0, "plain"), Way("blur", 1.0, "plain")
    half = Way("blur", 0.5, "balanced")
    known = {
        border: Trial(99.0, {"blur": 20.0}),
        blur: Trial(70.0, {"border": 72.0}),
        FALLBACK: Trial(90.0, {"border": 10.0, "blur": 10.0}),
        half: Trial(80.0, {"border": 75.0}),
    }
    trials: Any = SimpleNamespace(of=known.__getitem__, margin=2.0)
    found = compared([border, blur, FALLBACK], trials, OWN)
    assert list(found) == [border, blur, half, FALLBACK] and found == known
    assert first_of_the_best(found, 2.0) == half and first_of_the_best(found, 6.0) == blur
    assert compared([FALLBACK], trials, OWN) == {FALLBACK: known[FALLBACK]}
    assert variants("blur", OWN) == [blur, half]
    assert variants("blur", OWN | {"share": 0.3, "loss": "plain"}) == [Way("blur", 0.3, "plain")]


def test_what_shows_the_content_is_neither_tried_nor_asked_about_where_another_property_tells_the_class():
    """Classes that differ in their colours a little, and all of whose images differ in sharpness."""
    rates = {name: Rates(60.0, 30.0, None) for name in (CONTROL, "histogram", "channel_stats", "blur", "backdrop")}
    n = 1_000_000

    def told(name: str, beyond: float) -> Predicted:
        return Predicted(name, Share((0.5 + beyond / 2) * n, n), 0.5, 1)

    properties = [told("sharpness", 0.94), told("colour histogram", 0.5), told("mean and spread of colours", 0.79)]
    assert list(without_content(rates, properties)) == [CONTROL, "blur", "backdrop"]
    both = [told("sharpness", 0.94), told("mean and spread of colours", 0.81)]
    assert list(without_content(rates, both)) == list(rates)


def test_what_trials_are_asked_about():
    """Narrow operators that move the answers: neither what moves little, nor what takes several properties along."""
    rates = {CONTROL: (0, 100), "border": (90, 5), "amplitude_all": (95, 1), "blur": (39, 30), "noise": (45, 50)}
    found = {name: Rates(*rate, None) for name, rate in rates.items()}
    assert asked_about(found, 40.0) == ["border"]
    # What a property alone has named is asked about, however little moves with it, and once.
    assert asked_about(found, 40.0, "blur") == ["blur", "border"]
    assert asked_about(found, 40.0, "border") == ["border"]
    assert asked_about(found, 40.0, "amplitude_all") == ["border"]


def test_a_way_gives_place_to_a_later_one_only_beyond_chance():
    scores = {Way("blur", 1.0, "plain"): 61.0, Way("blur", 0.5, "balanced"): 66.0, FALLBACK: 67.0}
    tried = {way: Trial(score, {"blur": 100.0}) for way, score in scores.items()}
    first, second, third = tried
    assert first_of_the_best(tried, 0.0) == third
    assert first_of_the_best(tried, 2.0) == second
    assert first_of_the_best(tried, 6.0) == first
    # Two cells of 25 and 100 images and an empty one: half of the root of .25 / 25 + .25 / 100.
    assert margin_of(torch.tensor([25, 0, 100])) == pytest.approx(5.590, abs=1e-3)
    assert margin_of(torch.zeros(3, dtype=torch.int64)) == 0.0
