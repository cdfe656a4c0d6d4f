"""Logit correction and group mixup by hand."""

import math

import pytest
import torch

from debias.losses.logit_correction import (
    class_means,
    corrected_cross_entropy,
    minority_partners,
    mixing_share,
    moved_prior,
    sigmoid_ramp,
)


def test_class_means() -> None:
    said = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]], requires_grad=True)
    means, present = class_means(said, torch.tensor([0, 2, 0]))
    torch.testing.assert_close(means, torch.tensor([[0.6, 0.2, 0.2], [0.0, 0.0, 0.0], [0.2, 0.5, 0.3]]))
    assert present.tolist() == [True, False, True] and not means.requires_grad


def test_the_prior_moves_where_a_class_is_present() -> None:
    prior, means = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    moved = moved_prior(prior, means, torch.tensor([True, False]), 0.75)
    torch.testing.assert_close(moved, torch.tensor([[0.625, 0.375], [0.9, 0.1]]))


def test_the_corrected_cross_entropy() -> None:
    """p_y is e^f_y (s_y + 1e-4) in parts of their sum: 2 of 5 at logits log 2 and log 3 and equal shares."""
    logits, target = torch.tensor([[math.log(2), math.log(3)]]), torch.tensor([0])
    equal = corrected_cross_entropy(logits, target, torch.tensor([[0.5, 0.5]]))
    assert float(equal) == pytest.approx(-math.log(2 / 5), rel=1e-5)
    share = torch.tensor([[0.1999, 0.7999]])
    assert float(corrected_cross_entropy(logits, target, share)) == pytest.approx(
        -math.log(0.4 / (0.4 + 2.4)), rel=1e-5
    )
    # A share of 0 is 1e-4.
    none = float(corrected_cross_entropy(torch.zeros(1, 2), target, torch.tensor([[0.0, 1.0]])))
    assert none == pytest.approx(math.log(1 + 1.0001 / 1e-4), rel=1e-5)


def test_partners_are_minority_images_of_the_class() -> None:
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    minority = torch.tensor([False, True, True, False, False, True])
    draws = torch.zeros(6, 6)
    draws[0, 2], draws[1, 1], draws[2, 1] = 0.9, 0.2, 0.1
    draws[3] = 0.9  # class 1 has no minority image
    assert minority_partners(target, minority, draws).tolist() == [2, 1, 1, 3, 4, 5]


def test_partners_are_drawn_evenly() -> None:
    target, minority = torch.zeros(5, dtype=torch.int64), torch.tensor([False, True, True, False, True])
    generator = torch.Generator().manual_seed(0)
    drawn = [minority_partners(target, minority, torch.rand(5, 5, generator=generator)) for _ in range(600)]
    counts = torch.bincount(torch.cat(drawn), minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert (counts[[1, 2, 4]] - 1000).abs().max() < 120  # four standard deviations


@pytest.mark.parametrize(("tau", "low", "high"), [(0.0, 1.0, 1.0), (0.25, 0.5, 0.75), (0.5, 0.0, 0.5)])
def test_the_share_of_the_image_itself(tau: float, low: float, high: float) -> None:
    assert mixing_share(torch.tensor([0.0, 1.0]), tau).tolist() == [low, high]


def test_the_ramp() -> None:
    done = torch.tensor([0.0, 0.5, 1.0, 3.0])
    torch.testing.assert_close(sigmoid_ramp(done), torch.tensor([math.exp(-5), math.exp(-1.25), 1.0, 1.0]))
