import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.losses.gce import confident_cross_entropy, gce, gce_lff

# Class probabilities 1/4 3/4 and 1/2 1/2; the labels have 1/4 and 1/2.
LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
TARGET = torch.tensor([0, 1])


def test_gce_by_hand() -> None:
    assert gce(LOGITS, TARGET, q=0.5).item() == pytest.approx((2 * (1 - 0.5) + 2 * (1 - math.sqrt(0.5))) / 2)
    assert gce(LOGITS, TARGET, q=1.0).item() == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_gce_becomes_the_cross_entropy_for_small_q() -> None:
    torch.testing.assert_close(gce(LOGITS, TARGET, q=1e-5), cross_entropy(LOGITS, TARGET), rtol=1e-4, atol=0)


def test_gce_lff_by_hand() -> None:
    want = 0.5 * (0.5 * math.log(4) + math.sqrt(0.5) * math.log(2)) / 2
    assert gce_lff(LOGITS, TARGET, q=0.5).item() == pytest.approx(want)


def test_gradient_of_the_lff_form_is_q_times_that_of_gce() -> None:
    logits, target = torch.randn(32, 10, requires_grad=True), torch.randint(10, (32,))
    (ours,) = torch.autograd.grad(gce_lff(logits, target, 0.7), logits)
    (textbook,) = torch.autograd.grad(gce(logits, target, 0.7), logits)
    torch.testing.assert_close(ours, 0.7 * textbook)


def test_label_of_probability_zero() -> None:
    logits = torch.tensor([[0.0, 1e4]], requires_grad=True)
    loss = gce(logits, torch.tensor([0]), q=0.7)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(1 / 0.7)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("q", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("loss", [gce, gce_lff])
def test_q_out_of_range(loss, q: float) -> None:
    with pytest.raises(UserError, match=f"q is {q}"):
        loss(LOGITS, TARGET, q)


def test_confident_takes_only_the_samples_above_eta() -> None:
    assert confident_cross_entropy(LOGITS, TARGET, eta=0.3).item() == pytest.approx(math.log(2))
    assert confident_cross_entropy(LOGITS, TARGET, eta=0.2).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    # p_y = eta is not above eta.
    assert confident_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), eta=0.5).item() == 0


def test_confident_with_nothing_selected_is_zero_without_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = confident_cross_entropy(logits, TARGET, eta=0.9)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert gradient.eq(0).all()
