"""DisEnt's losses by hand, and whose gradient goes where."""

import math

import pytest
import torch

from debias.losses.disentangle import disentangling, seen_by_each


def test_each_classifier_moves_its_own_encoder() -> None:
    target, bias = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[3.0]], requires_grad=True)
    for_target, for_bias = seen_by_each(target, bias)
    assert for_target.tolist() == for_bias.tolist() == [[1.0, 2.0, 3.0]]
    for_target.sum().backward()
    assert target.grad is not None and target.grad.tolist() == [[1.0, 1.0]] and bias.grad is None
    target.grad = None
    for_bias.sum().backward()
    assert target.grad is None and bias.grad is not None and bias.grad.tolist() == [[1.0]]


def test_the_loss_by_hand() -> None:
    """The target's cross-entropies log 2 and log 4, weighed .5 and .25; the bias's q p^q CE at p = 1/2 and 1/4."""
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    target = torch.tensor([1, 0])
    weight = torch.tensor([0.5, 0.25])
    first = (0.5 * math.log(2) + 0.25 * math.log(4)) / 2
    second = 0.5 * (0.5**0.5 * math.log(2) + 0.25**0.5 * math.log(4)) / 2
    loss = disentangling(logits, logits, target, target, weight, 3.0, 0.5)
    assert float(loss) == pytest.approx(first + 3 * second, rel=1e-6)
    # With exchanged features the biased one answers for the other image: p = 1/2 and 3/4.
    other = 0.5 * (0.5**0.5 * math.log(2) + 0.75**0.5 * math.log(4 / 3)) / 2
    loss = disentangling(logits, logits, target, torch.tensor([0, 1]), weight, 3.0, 0.5)
    assert float(loss) == pytest.approx(first + 3 * other, rel=1e-6)
