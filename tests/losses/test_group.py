import math

import pytest
import torch

from debias.losses.group import group_dro, group_losses


def test_mean_of_each_group_and_zero_for_an_absent_one() -> None:
    losses, counts = group_losses(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([3, 0, 3]), 4)
    assert losses.tolist() == [2.0, 0.0, 0.0, 3.0]
    assert counts.tolist() == [1.0, 0.0, 0.0, 2.0]


def test_step_by_hand() -> None:
    q, losses = torch.tensor([0.5, 0.5]), torch.tensor([0.0, math.log(3)])
    loss, new_q = group_dro(q, losses, torch.ones(2), eta=1.0)
    torch.testing.assert_close(new_q, torch.tensor([0.25, 0.75]))
    assert loss.item() == pytest.approx(0.75 * math.log(3))
    assert q.tolist() == [0.5, 0.5]


def test_absent_groups_keep_their_ratio_and_the_worst_gains() -> None:
    q = torch.tensor([0.1, 0.2, 0.3, 0.4])
    # A value beside count 0 must not matter either.
    _, new_q = group_dro(q, torch.tensor([9.0, 1.0, 2.0, 0.0]), torch.tensor([0.0, 3.0, 1.0, 0.0]), eta=0.5)
    assert (new_q[3] / new_q[0]).item() == pytest.approx(4)
    assert (new_q[2] / new_q[1]).item() == pytest.approx(1.5 * math.exp(0.5))
    assert (new_q[1] / new_q[0]).item() == pytest.approx(2 * math.exp(0.5))
    assert new_q.sum().item() == pytest.approx(1)


def test_gradient_goes_through_the_losses_only() -> None:
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    loss, new_q = group_dro(torch.tensor([0.5, 0.5]), losses, torch.ones(2), eta=0.1)
    assert not new_q.requires_grad
    (gradient,) = torch.autograd.grad(loss, losses)
    torch.testing.assert_close(gradient, new_q)


def test_huge_losses_and_a_weight_of_zero_stay_finite() -> None:
    loss, new_q = group_dro(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([1.0, 1e4, 2e4]), torch.ones(3), eta=1.0)
    assert new_q.tolist() == [0.0, 0.0, 1.0]
    assert loss.item() == 2e4
