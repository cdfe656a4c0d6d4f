"""The choice among methods: by cells of class and pseudo label, and only by more than chance."""

import math

import pytest
import torch

from debias.data.operators import OPERATORS
from debias.data.split import Split, Task
from debias.study import candidates
from debias.study.choice import (
    PLAIN,
    Evidence,
    agreed_cells,
    balanced,
    chosen_of,
    difference,
    faithful,
    preferred,
    recommended,
)


def right(*shares: float, count: int = 100) -> torch.Tensor:
    """Of as many cells as there are shares, which of `count` images each are right."""
    return torch.cat([torch.arange(count) < share * count for share in shares])


def cells(number: int, count: int = 100) -> torch.Tensor:
    return torch.arange(number).repeat_interleave(count)


def test_cells_weigh_the_same_however_large():
    cell = torch.tensor([0] * 90 + [1] * 10)
    assert balanced(torch.tensor([True] * 90 + [False] * 10), cell) == 0.5


def test_the_difference_is_paired():
    mean, error = difference(right(0.9, 0.5), right(0.8, 0.5), cells(2))
    assert mean == pytest.approx(0.05)
    # of 100 images 10 differ: a variance of .1 - .01; where nothing differs that of one in 100
    assert error == pytest.approx(math.sqrt(0.09 / 100 + 0.01 / 100) / 2)


@pytest.mark.parametrize(
    ("plain", "other", "chosen"),
    [
        ((0.9, 0.9), (0.9, 0.91), "first"),  # as good by chance: the one that is preferred
        ((0.95, 0.1), (0.8, 0.8), "second"),
        ((0.95, 0.9), (0.8, 0.1), "first"),
    ],
)
def test_what_is_preferred_is_chosen_unless_another_is_better(plain, other, chosen):
    found = chosen_of(("first", "second"), Evidence({"first": right(*plain), "second": right(*other)}, cells(2)))
    assert found == chosen


def test_where_each_is_beaten_the_best_is_chosen():
    methods = {"first": right(0.2, 0.2), "second": right(0.5, 0.5), "third": right(0.9, 0.9)}
    assert chosen_of(tuple(methods), Evidence(methods, cells(2))) == "third"


def test_few_images_decide_nothing():
    few = torch.tensor([0, 0, 1])
    kept, other = torch.tensor([True, True, False]), torch.tensor([True, True, True])
    assert chosen_of(("kept", "other"), Evidence({"kept": kept, "other": other}, few)) == "kept"


def test_what_is_no_better_than_the_plain_method_is_not_chosen():
    methods = {"moved": right(0.5, 0.5), "balanced": right(0.6, 0.55), PLAIN: right(0.9, 0.11)}
    assert chosen_of(tuple(methods), Evidence(methods, cells(2))) == "balanced"


def test_images_on_which_miners_disagree_decide_nothing():
    target = torch.tensor([0, 0, 1, 1])
    places, cell = agreed_cells(target, [torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 0])], 2)
    assert places.tolist() == [0, 2, 3] and cell.tolist() == [0, 3, 2]
    assert agreed_cells(target, [], 2)[1].tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("verdict", "method"), [("named", "other"), ("unmoved", "other"), ("none", PLAIN), ("unlearnt", PLAIN)]
)
def test_where_no_shortcut_was_seen_the_plain_method_is_recommended(verdict, method):
    right_by = {PLAIN: right(0.9, 0.2), "other": right(0.9, 0.9)}
    assert recommended(verdict, (PLAIN, "other"), Evidence(right_by, cells(2))) == method


def test_images_with_the_shortcut_of_others_decide_where_few_images_go_against_it():
    few = Evidence({"moved": right(0.9, 0.5, count=10), PLAIN: right(0.9, 0.6, count=10)}, cells(2, 10))
    many = Evidence({"moved": right(0.9, 0.8), PLAIN: right(0.9, 0.5)}, cells(2))
    assert chosen_of(("moved", PLAIN), few) == PLAIN
    assert chosen_of(("moved", PLAIN), few, many) == "moved"
    assert recommended("named", ("moved", PLAIN), few, many) == "moved"
    # Neither does better with the shortcut of others: the plain one.
    alike = Evidence({"moved": right(0.9, 0.5), PLAIN: right(0.9, 0.5)}, cells(2))
    assert chosen_of(("moved", PLAIN), few, alike) == PLAIN


def test_what_is_surely_beaten_on_images_as_they_are_is_not_chosen():
    real = Evidence({"moved": right(0.9, 0.3), "balanced": right(0.9, 0.7), PLAIN: right(0.9, 0.2)}, cells(2))
    given = Evidence({"moved": right(0.9, 0.9), "balanced": right(0.9, 0.7), PLAIN: right(0.9, 0.2)}, cells(2))
    assert chosen_of(("moved", "balanced", PLAIN), real, given) == "balanced"


@pytest.mark.parametrize(
    ("real", "moved", "count", "expected"),
    [
        (0.2, 0.2, 100, True),
        (0.4, 0.2, 100, True),  # it minds more than it has to
        (0.2, 0.8, 100, False),  # what stays of the shortcut still tells it the class
        (0.2, 0.4, 10, True),  # two of ten more are no sure sign
        (0.2, 0.4, 400, False),
    ],
)
def test_a_shortcut_that_does_not_move_as_a_whole_is_noticed(real, moved, count, expected):
    as_they_are, given = (Evidence({PLAIN: right(1.0, share, count=count)}, cells(2, count)) for share in (real, moved))
    assert faithful(as_they_are, given) is expected


def test_what_moves_the_shortcut_is_preferred_only_where_that_can_be_seen_to_take_it_away():
    order = ("property_moved", "gce_balanced", "property_balanced", PLAIN)
    assert preferred(order, telling=True) == order
    assert preferred(order, telling=False) == ("gce_balanced", "property_balanced", "property_moved", PLAIN)
    assert preferred((PLAIN, "gce_balanced"), telling=False) == (PLAIN, "gce_balanced")


def test_methods_are_compared_on_features_of_images_that_are_moved_narrowly(monkeypatch):
    """The thorough way would prefer the method that has trained with it."""
    asked = []

    def moved_features(task, split, apply, where, donors, *rest, **words):
        asked.append((apply, where))
        return split.images

    monkeypatch.setattr(candidates, "moved_features", moved_features)
    split = Split(torch.zeros(6, 1, 4, dtype=torch.float16), torch.arange(6) % 2, None, torch.arange(6))
    task = Task("made", split, split, None, ("a", "b"), None, "key", features="some")
    found = candidates.on_moved({}, task, split, OPERATORS["blur"], {"seed": 1}, torch.device("cpu"), False)
    assert asked == [(OPERATORS["blur"].apply, "the sharpness")] and found.right == {}
