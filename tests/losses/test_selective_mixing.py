"""Partners on a matrix made by hand, and the weighted contrastive loss pair by pair."""

import math

import pytest
import torch

from debias.errors import UserError
from debias.losses.contrastive import supervised_contrastive
from debias.losses.selective_mixing import (
    contradicting_partners,
    generalised_contrastive,
    least_alike_of_class,
    most_alike_of_others,
)

# Three images of class 0, two of class 1, one of class 2.
TARGET = torch.tensor([0, 0, 0, 1, 1, 2])
COSINES = torch.tensor(
    [
        [1.0, 0.9, -0.2, 0.1, 0.3, 0.2],
        [0.9, 1.0, 0.4, 0.8, -0.5, 0.7],
        [-0.2, 0.4, 1.0, -0.9, -0.8, -0.7],
        [0.1, 0.8, -0.9, 1.0, 0.95, 0.0],
        [0.3, -0.5, -0.8, 0.95, 1.0, 0.6],
        [0.2, 0.7, -0.7, 0.0, 0.6, 1.0],
    ]
)


def test_the_least_alike_of_the_class() -> None:
    """The only one of its class is its own; with one other, that one, however alike it is."""
    assert least_alike_of_class(COSINES, TARGET).tolist() == [2, 2, 0, 4, 3, 5]


def test_the_most_alike_of_other_classes() -> None:
    """However unlike they all are; none of the own class, however alike."""
    assert most_alike_of_others(COSINES, TARGET).tolist() == [4, 3, 5, 1, 5, 1]
    assert most_alike_of_others(COSINES, torch.zeros_like(TARGET)).tolist() == list(range(6))


def test_a_coin_chooses_for_the_whole_batch() -> None:
    for side, expected in ((True, [2, 2, 0, 4, 3, 5]), (False, [4, 3, 5, 1, 5, 1])):
        assert contradicting_partners(COSINES, TARGET, torch.tensor(side)).tolist() == expected


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_the_loss_pair_by_pair(q: float) -> None:
    temperature, anchors = 0.5, []
    for i in range(5):  # image 5 has no other of its class
        scores = {k: math.exp(float(COSINES[i, k]) / temperature) for k in range(6) if k != i}
        shares = [scores[j] / sum(scores.values()) for j in scores if TARGET[j] == TARGET[i]]
        anchors.append(sum(-(p**q) * math.log(p) for p in shares) / len(shares))
    found = generalised_contrastive(COSINES, TARGET, temperature, q)
    assert float(found) == pytest.approx(sum(anchors) / 5, rel=1e-5)


def test_without_weights_it_is_the_supervised_contrastive_loss() -> None:
    features = torch.nn.functional.normalize(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    target = torch.tensor([0, 1, 0, 1, 2, 2, 0, 3])
    everyone = torch.ones(8)
    expected = supervised_contrastive(features, target, everyone, temperature=0.2)
    torch.testing.assert_close(generalised_contrastive(features @ features.T, target, 0.2, 0.0), expected)


def test_pairs_that_are_unlike_pull_less() -> None:
    """Weights are constants: the pull on a pair is the plain one times p^q."""
    pulls = {}
    for q in (0.0, 0.7):
        cosines = COSINES.clone().requires_grad_()
        # One anchor with one positive, of two classes.
        generalised_contrastive(cosines[:3, :3], torch.tensor([0, 1, 0]), 0.2, q).backward()
        assert cosines.grad is not None
        pulls[q] = float(cosines.grad[0, 2])
    p = math.exp(-0.2 / 0.2) / (math.exp(-0.2 / 0.2) + math.exp(0.9 / 0.2))
    assert pulls[0.7] == pytest.approx(p**0.7 * pulls[0.0], rel=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_without_a_pair(count: int) -> None:
    cosines = COSINES[:count, :count].clone().requires_grad_()
    loss = generalised_contrastive(cosines, torch.arange(count))
    loss.backward()
    assert float(loss.detach()) == 0 and cosines.grad is not None and not cosines.grad.any()


def test_a_temperature_that_is_none() -> None:
    with pytest.raises(UserError, match=r"temperature is 0.*0\.2"):
        generalised_contrastive(COSINES, TARGET, 0.0)
