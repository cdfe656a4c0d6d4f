"""HSIC by hand and by its definition, sum by sum."""

import math
from itertools import permutations

import pytest
import torch

from debias.losses.hsic import dependence, gaussian_kernel, unbiased_hsic


def kernels(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    made = [torch.rand(count, count, generator=generator, dtype=torch.float64) for _ in range(2)]
    first, second = ((each + each.T) / 2 for each in made)
    return first, second


def test_the_kernel() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    expected = [[1, math.exp(-2), math.exp(-0.5)], [math.exp(-2), 1, math.exp(-2.5)]]
    torch.testing.assert_close(gaussian_kernel(points, 1.0)[:2], torch.tensor(expected))
    assert float(gaussian_kernel(points, 2.0)[0, 1]) == pytest.approx(math.exp(-0.5))
    # Far from the origin as well.
    torch.testing.assert_close(gaussian_kernel(points + 1000, 1.0)[:2], torch.tensor(expected))


def test_four_images_by_hand() -> None:
    """Two pairs: 4 of the trace, 4 * 4 / 6, less 2 / 2 * 4, over 4 * 1 if both see the same pairs; else no trace."""
    pairs = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    others = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert float(unbiased_hsic(pairs, pairs)) == pytest.approx((4 + 16 / 6 - 4) / 4)
    assert float(unbiased_hsic(pairs, others)) == pytest.approx((0 + 16 / 6 - 4) / 4)
    # Diagonals do not count.
    assert float(unbiased_hsic(pairs + 5 * torch.eye(4), others)) == pytest.approx(-1 / 3)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_the_mean_over_four_different_images(count: int) -> None:
    """Its definition: the mean of k_ij l_ij + k_ij l_qr - 2 k_ij l_iq over all ways to draw i, j, q and r."""
    k, l = kernels(count)  # noqa: E741
    drawn = list(permutations(range(count), 4))
    terms = [k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q] for i, j, q, r in drawn]
    assert float(unbiased_hsic(k, l)) == pytest.approx(float(sum(terms)) / len(drawn), abs=1e-12)


def test_a_constant_off_the_diagonal_changes_nothing() -> None:
    first, second = kernels(6)
    assert float(unbiased_hsic(first - 0.7, second)) == pytest.approx(float(unbiased_hsic(first, second)), abs=1e-12)


def test_independent_features_have_none_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [[torch.randn(16, 2, generator=generator) for _ in range(2)] for _ in range(400)]
    apart = torch.stack([dependence(one, other) for one, other in drawn])
    assert abs(float(apart.mean())) < 4 * float(apart.std()) / 20 < 0.01
    assert float((apart < 0).float().mean()) > 0.2
    alike = torch.stack([dependence(one, one + 0.1 * other) for one, other in drawn])
    assert float(alike.mean()) > 20 * float(apart.std()) / 20


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_images(count: int) -> None:
    features = torch.rand(count, 2, requires_grad=True)
    value = dependence(features, torch.rand(count, 3))
    value.backward()
    assert float(value) == 0 and features.grad is not None and not features.grad.any()
