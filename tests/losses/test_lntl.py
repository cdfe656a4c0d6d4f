"""Learning Not to Learn: its losses by hand, and pixels without a label."""

import math

import pytest
import torch

from debias.losses.lntl import bias_accuracy, bias_loss, negative_entropy, reverse_gradient

LOG = math.log


def test_the_gradient_is_reversed_and_nothing_else():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.1)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([-0.3, -0.5]))


def test_negative_entropy_by_hand():
    sure = torch.tensor([100.0, 0.0]).view(1, 1, 2, 1, 1)
    unsure = torch.zeros(1, 1, 2, 1, 1)
    assert negative_entropy(sure).item() == pytest.approx(0, abs=1e-6)
    assert negative_entropy(unsure).item() == pytest.approx(-LOG(2))
    # the mean over pixels, whatever is on them
    assert negative_entropy(torch.cat([sure, unsure], dim=4)).item() == pytest.approx(-LOG(2) / 2)


@pytest.mark.parametrize("size", [200, 1e4, 1e30])
def test_probabilities_that_underflow_leave_the_entropy_finite(size: float):
    logits = (size * torch.eye(8)).view(1, 1, 8, 8, 1).requires_grad_()
    assert (torch.softmax(logits, 2) == 0).any()
    entropy = negative_entropy(logits)
    entropy.backward()
    assert torch.isfinite(entropy) and logits.grad is not None and torch.isfinite(logits.grad).all()


def test_bias_loss_is_a_mean_over_labelled_pixels_summed_over_channels():
    logits = torch.zeros(1, 2, 4, 1, 3)
    logits[0, 0, 1, 0, 0] = LOG(5)
    # channel 0: the bin 1 of weight 5 against three of weight 1, and one unlabelled pixel; channel 1: two of log 4
    bins = torch.tensor([[[[1, 255, 0]], [[3, 2, 255]]]], dtype=torch.uint8)
    expected = (LOG(8 / 5) + LOG(4)) / 2 + LOG(4)
    assert bias_loss(logits, bins).item() == pytest.approx(expected)


def test_without_a_label_a_channel_adds_nothing():
    logits = torch.randn(2, 3, 8, 2, 2, requires_grad=True)
    bins = torch.full((2, 3, 2, 2), 255, dtype=torch.uint8)
    loss = bias_loss(logits, bins)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and logits.grad.abs().max() == 0
    assert bias_accuracy(logits.detach(), bins).item() == 0


def test_bias_accuracy_counts_labelled_pixels_alone():
    logits = torch.zeros(1, 1, 3, 1, 4)
    logits[0, 0, 2] = 1
    assert bias_accuracy(logits, torch.tensor([2, 255, 0, 2], dtype=torch.uint8).view(1, 1, 1, 4)).item() == (
        pytest.approx(200 / 3)
    )
