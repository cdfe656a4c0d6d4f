"""EnD's two terms: by hand, against the sum over pairs, and where there is no pair."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from debias.errors import UserError
from debias.losses.end import entangle_disentangle


def by_pairs(features: Tensor, target: Tensor, bias: Tensor, half: bool = False) -> tuple[float, float]:
    """The definition, pair by pair."""
    unit = normalize(features.double(), dim=1)
    apart: dict[int, float] = {}
    same_bias = together = used = 0.0
    for i in range(len(unit)):
        for j in range(i):
            cosine = float(unit[i] @ unit[j])
            if bias[i] == bias[j]:
                apart[int(bias[i])] = apart.get(int(bias[i]), 0.0) + cosine
                same_bias += 1
            if target[i] == target[j] and (bias[i] < bias[j] if half else bias[i] != bias[j]):
                together += (1 + cosine) / 2
                used += 1
    perpendicular = sum(abs(total) for total in apart.values()) / same_bias if same_bias else 0.0
    return perpendicular, 1 - together / used if used else 0.0


def draw(n: int, seed: int, n_targets: int = 3, n_biases: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, n_targets, (n,), generator=generator)
    bias = torch.randint(0, n_biases, (n,), generator=generator)
    return torch.randn(n, 5, generator=generator), target, bias


@pytest.mark.parametrize("pairs", ["all", "half"])
@pytest.mark.parametrize("n", [2, 7, 40])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_sum_over_pairs(pairs, n, seed):
    features, target, bias = draw(n, seed)
    found = entangle_disentangle(features.double(), target, bias, 3, 4, pairs)
    expected = by_pairs(features, target, bias, half=pairs == "half")
    assert [float(value) for value in found] == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    """Images a, b share target 0, c, d target 1; a, c share bias 0, b, d bias 1; b lies opposite to d."""
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [3.0, 4.0], [0.0, -1.0]])
    target, bias = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    # Cosines within a bias: a.c = .6, b.d = -1; two pairs. Within a target: a.b = 0, c.d = -.8.
    perpendicular, parallel = entangle_disentangle(features, target, bias, 2, 2)
    assert float(perpendicular) == pytest.approx((0.6 + 1) / 2)
    assert float(parallel) == pytest.approx(1 - (0.5 + 0.1) / 2)
    # In neither pair of a target does the larger bias come first: the published code uses none of them.
    assert [float(value) for value in entangle_disentangle(features, target, bias, 2, 2, "half")] == pytest.approx(
        [0.8, 0]
    )
    # In the opposite order it uses both.
    flipped = entangle_disentangle(features.flip(0), target.flip(0), bias.flip(0), 2, 2, "half")
    assert [float(value) for value in flipped] == pytest.approx([0.8, 0.7])


def test_signs_cancel_within_a_bias_and_not_between_biases():
    east, west = [1.0, 0.0], [-1.0, 0.0]
    target = torch.zeros(6, dtype=torch.long)
    # Bias 0: cosines 1, -1, -1; bias 1: 1, 1, 1.
    features = torch.tensor([east, east, west, east, east, east])
    perpendicular, _ = entangle_disentangle(features, target, torch.tensor([0, 0, 0, 1, 1, 1]), 1, 2)
    assert float(perpendicular) == pytest.approx((1 + 3) / 6)


@pytest.mark.parametrize("pairs", ["all", "half"])
@pytest.mark.parametrize(
    ("target", "bias", "terms"),
    [
        ([0, 1, 2], [0, 1, 2], (False, False)),  # no two images have anything in common
        ([0, 1, 2], [1, 1, 1], (True, False)),  # no target twice
        ([0, 0, 0], [2, 1, 0], (False, True)),  # no bias twice
        ([0, 0, 1], [1, 1, 0], (True, False)),  # a target twice, in one bias only
        ([1], [1], (False, False)),
    ],
)
def test_a_term_without_a_pair_is_nought_and_has_no_gradient(pairs, target, bias, terms):
    features = torch.randn(len(target), 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = entangle_disentangle(features, torch.tensor(target), torch.tensor(bias), 3, 3, pairs)
    for value, has_pair in zip(found, terms, strict=True):
        (gradient,) = torch.autograd.grad(value, features, retain_graph=True)
        assert bool(torch.isfinite(gradient).all())
        assert (bool(gradient.any()), float(value.detach()) != 0) == (has_pair, has_pair)


def test_ends_of_the_range():
    target, bias = torch.tensor([0, 0]), torch.tensor([0, 1])
    for other, parallel in (([2.0, 0.0], 0.0), ([-1.0, 0.0], 1.0)):
        found = entangle_disentangle(torch.tensor([[1.0, 0.0], other]), target, bias, 1, 2)[1]
        assert float(found) == pytest.approx(parallel, abs=1e-6)


def test_half_of_the_pairs_is_right_on_average_and_spreads_more():
    features, target, bias = draw(60, 5)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(60, generator=generator) for _ in range(200)]
    values = torch.tensor(
        [float(entangle_disentangle(features[o], target[o], bias[o], 3, 4, "half")[1]) for o in orders]
    )
    whole = float(entangle_disentangle(features, target, bias, 3, 4)[1])
    assert float(values.mean()) == pytest.approx(whole, abs=3 * float(values.std()) / 200**0.5)
    assert float(values.std()) > 1e-3


def test_length_and_order_do_not_matter():
    features, target, bias = draw(30, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    plain = torch.stack(entangle_disentangle(features, target, bias, 3, 4))
    scaled = torch.stack(entangle_disentangle(features * torch.rand(30, 1) * 9, target, bias, 3, 4))
    moved = torch.stack(entangle_disentangle(features[order], target[order], bias[order], 3, 4))
    assert torch.allclose(plain, scaled, atol=1e-6) and torch.allclose(plain, moved, atol=1e-6)


def test_unknown_pairs():
    with pytest.raises(UserError, match="pairs is 'most'; set it to one of all, half"):
        entangle_disentangle(*draw(4, 0), 3, 4, "most")  # type: ignore[arg-type]
