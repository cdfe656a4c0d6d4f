"""Losses of a last layer by hand."""

import math

import pytest
import torch

from debias.losses.last_layer import balanced_subset, doubted_weights, pulled_back, sparse_logistic


def test_images_that_are_doubted_weigh_more() -> None:
    """p is 1/2, 3/4 and 1/4, of classes of two, two and one images."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [math.log(3), 0.0]], requires_grad=True)
    weights = doubted_weights(logits, torch.tensor([0, 0, 1]), 2.0)
    parts = torch.tensor([math.exp(-1) / 2, math.exp(-1.5) / 2, math.exp(-0.5)])
    torch.testing.assert_close(weights, parts / parts.sum())
    assert not weights.requires_grad
    torch.testing.assert_close(doubted_weights(logits, torch.tensor([0, 0, 1]), 0.0), torch.tensor([0.25, 0.25, 0.5]))


def test_the_loss_that_pulls_the_last_layer_back() -> None:
    logits, target = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([0, 0])
    now, before = [torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])], [torch.tensor([[1.0, 0.0]]), torch.tensor([2.0])]
    loss = pulled_back(logits, target, torch.tensor([0.75, 0.25]), now, before, 0.1)
    assert float(loss) == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(4) + 0.1 * (4 + 1))


def test_sparse_logistic_regression() -> None:
    """Two at a time: one with weights that give odds of 3 to 1, one with none."""
    features = torch.tensor([[[1.0], [2.0]], [[5.0], [5.0]]])
    target = torch.tensor([[0, 1], [1, 1]])
    weight = torch.tensor([[[math.log(3)], [0.0]], [[0.0], [0.0]]])
    bias = torch.tensor([[0.0, 0.0], [0.0, math.log(4)]])
    # First: p(0 | 1) = 3/4, p(1 | 2) = 1/10; second: 4/5 twice.
    expected = (math.log(4 / 3) + math.log(10)) / 2 + math.log(5 / 4) + math.log(3) / (0.5 * 2)
    assert float(sparse_logistic(features, target, weight, bias, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_a_balanced_subset() -> None:
    group = torch.tensor([7, 0, 7, 7, 0, 3, 7, 3, 7, 0])
    drawn = [balanced_subset(group, torch.Generator().manual_seed(seed)) for seed in range(40)]
    for places in drawn:
        assert group[places].tolist() == [0, 0, 3, 3, 7, 7] and len(set(places.tolist())) == 6
    assert {place for places in drawn for place in places.tolist()} == set(range(10))
