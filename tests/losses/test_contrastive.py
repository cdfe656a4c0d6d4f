import math
from typing import Literal

import pytest
import torch

from debias.errors import UserError
from debias.losses.contrastive import supervised_contrastive


def one_pair_at_a_time(features, target, flag, mask, temperature) -> float:
    unit = [row / math.sqrt(sum(v * v for v in row)) for row in features.double().numpy()]
    n, losses = len(unit), []
    for i in range(n):
        chosen = [bool(flag[j]) or (mask == "either" and bool(flag[i])) for j in range(n)]
        positives = [j for j in range(n) if j != i and target[j] == target[i] and chosen[j]]
        if positives:
            log_all = math.log(sum(math.exp(unit[i] @ unit[k] / temperature) for k in range(n) if k != i))
            losses.append(-sum(unit[i] @ unit[j] / temperature - log_all for j in positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("mask", ["column", "either"])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_sum_written_out(mask: Literal["column", "either"], temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    features, target = torch.randn(20, 6) * 5, torch.randint(4, (20,))
    flag = torch.rand(20) < 0.3
    flag[:2], target[:2] = True, 0
    want = one_pair_at_a_time(features, target, flag, mask, temperature)
    for given in (flag, flag.float()):
        got = supervised_contrastive(features, target, given, mask, temperature)
        assert got.item() == pytest.approx(want, rel=1e-5)


def test_by_hand_and_the_two_masks_differ() -> None:
    # Image 2 is orthogonal to the other two, image 0 alone is flagged: under "column" only 1 is an anchor.
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    target, flag = torch.tensor([0, 0, 1]), torch.tensor([True, False, False])
    near = math.log(1 + math.exp(-1))
    assert supervised_contrastive(features, target, flag, "column", 1.0).item() == pytest.approx(near)
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    target, flag = torch.tensor([0, 0, 0]), torch.tensor([True, False, False])
    unequal = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    assert supervised_contrastive(features, target, flag, "column").item() == pytest.approx(math.log(2), rel=1e-6)
    column = supervised_contrastive(unequal, target, flag, "column", 1.0)
    either = supervised_contrastive(unequal, target, flag, "either", 1.0)
    assert (column - either).abs() > 0.01


def test_the_length_of_a_feature_does_not_matter() -> None:
    features, target, flag = torch.randn(12, 4), torch.randint(2, (12,)), torch.ones(12)
    scaled = features * torch.rand(12, 1).add(0.1) * 1e3
    torch.testing.assert_close(
        supervised_contrastive(scaled, target, flag), supervised_contrastive(features, target, flag)
    )


@pytest.mark.parametrize(
    ("target", "flag"),
    [([0, 0, 1], [0, 0, 0]), ([0, 1, 2], [1, 1, 1]), ([0], [1])],
    ids=["no flag", "no partner", "one image"],
)
@pytest.mark.parametrize("mask", ["column", "either"])
def test_no_positives_at_all(target: list[int], flag: list[int], mask: Literal["column", "either"]) -> None:
    features = torch.randn(len(target), 4, requires_grad=True)
    loss = supervised_contrastive(features, torch.tensor(target), torch.tensor(flag), mask)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0
    assert gradient.eq(0).all()


def test_a_feature_of_zeros_gets_no_gradient() -> None:
    features = torch.randn(4, 3)
    features[1] = 0
    features.requires_grad_()
    loss = supervised_contrastive(features, torch.tensor([0, 0, 0, 1]), torch.ones(4))
    (gradient,) = torch.autograd.grad(loss, features)
    assert gradient[1].eq(0).all()
    assert torch.isfinite(gradient).all() and gradient[0].abs().max() > 0


def test_settings_and_shapes_are_checked() -> None:
    features, target, flag = torch.randn(3, 2), torch.tensor([0, 0, 1]), torch.ones(3)
    with pytest.raises(UserError, match=r"'row'.*column, either"):
        supervised_contrastive(features, target, flag, "row")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="temperature"):
        supervised_contrastive(features, target, flag, temperature=0)
    with pytest.raises(ValueError, match="want"):
        supervised_contrastive(features, target, flag.unsqueeze(1))
