"""Which value of the bias a class is tied to, and which images are therefore aligned or conflicting."""

import numpy as np
import pytest
import torch

from debias.data.split import Split, Task
from debias.data.ties import find_ties, is_diagonal, order_of, ties_notes


@pytest.mark.parametrize(
    ("counts", "ties"),
    [
        ([[40, 2], [2, 40]], [[1, -1], [-1, 1]]),
        # shares decide, not counts: the second class never has the second value
        ([[122, 78], [40, 0]], [[-1, 1], [1, -1]]),
        # four values, two for each class
        ([[40, 38, 3, 3], [3, 3, 40, 38]], [[1, 1, -1, -1], [-1, -1, 1, 1]]),
        # two values: the class in between is tied to neither
        ([[40, 4], [22, 22], [4, 40]], [[1, -1], [0, 0], [-1, 1]]),
        # two classes share a value
        ([[40, 4], [38, 6], [4, 40]], [[1, -1], [1, -1], [-1, 1]]),
        # a value that all classes have as often
        ([[40, 2, 20], [2, 40, 20]], [[1, -1, 0], [-1, 1, 0]]),
        # nothing but chance
        ([[20, 22], [21, 20]], [[0, 0], [0, 0]]),
        ([[1, 0], [0, 1]], [[0, 0], [0, 0]]),
        # a value that no training image has
        ([[30, 1, 0], [1, 30, 0]], [[1, -1, 0], [-1, 1, 0]]),
    ],
)
def test_ties_by_hand(counts, ties):
    assert find_ties(np.array(counts)).tolist() == ties


def test_ten_classes_each_with_its_value_whatever_their_sizes():
    places = np.random.default_rng(0).permutation(10)
    counts = np.ones((10, 10), dtype=np.int64)
    counts[np.arange(10), places] = 60
    counts *= np.arange(1, 11)[:, None]
    ties = find_ties(counts)
    assert order_of(ties) == places.tolist()
    assert is_diagonal(ties[:, order_of(ties)]) and not is_diagonal(ties)


def test_values_without_a_class_come_last_and_are_named():
    ties = find_ties(np.array([[20, 2, 40], [20, 40, 2]]))
    assert order_of(ties) == [2, 1, 0]
    said = "\n".join(ties_notes(ties, ("cow", "camel"), ("fog", "grass", "sand")))
    assert "cow to sand, camel to grass" in said and "bias fog count as neither" in said
    assert "no class is tied" in ties_notes(ties * 0, ("cow", "camel"), ("fog", "grass", "sand"))[0]
    assert ties_notes(np.array([[1, -1], [-1, 1]], dtype=np.int8), "ab", "xy") == []


def task_of(ties):
    split = Split(
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1]),
        torch.arange(4),
    )  # fmt: skip
    names = ("a", "b", "c")
    return Task("made", split, split, None, names, ("x", "y"), "0", ties=torch.tensor(ties, dtype=torch.int8))


def test_images_by_the_ties():
    task = task_of([[1, -1], [0, 0], [-1, 1]])
    assert task.conflicting(task.train).tolist() == [False, True, False, False]
    assert task.aligned(task.train).tolist() == [True, False, False, True]
    assert task.conflicting(task.train.without_bias()) is None


def test_nothing_conflicts_where_nothing_is_tied():
    task = task_of([[0, 0], [0, 0], [0, 0]])
    assert task.conflicting(task.train) is None and task.aligned(task.train) is None
