import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.losses.reweight import (
    UNSEEN,
    bias_balanced,
    class_maximum,
    class_members,
    class_normalised,
    ema_update_,
    independence_weights,
    log_prior,
    relative_difficulty,
)


def test_relative_difficulty() -> None:
    biased = torch.tensor([3.0, 0.0, 2.0, 0.0], requires_grad=True)
    weight = relative_difficulty(biased, torch.tensor([1.0, 5.0, 2.0, 0.0]))
    torch.testing.assert_close(weight, torch.tensor([0.75, 0.0, 0.5, 0.0]))
    assert not weight.requires_grad


def test_moving_average_takes_a_first_value_whole() -> None:
    average = torch.full((4,), UNSEEN)
    assert ema_update_(average, torch.tensor([2, 0]), torch.tensor([4.0, 0.0]), alpha=0.75) is average
    assert average.tolist() == [0.0, UNSEEN, 4.0, UNSEEN]
    ema_update_(average, torch.tensor([2, 0]), torch.tensor([8.0, 2.0]), alpha=0.75)
    # An average of exactly 0 has been seen: its next value is not taken whole.
    assert average.tolist() == [0.5, UNSEEN, 5.0, UNSEEN]


def test_moving_average_of_a_sample_drawn_twice_does_not_depend_on_the_order() -> None:
    for values in ([2.0, 6.0], [6.0, 2.0]):
        start = torch.tensor([10.0, 1.0])
        assert ema_update_(start, torch.tensor([0, 0]), torch.tensor(values), alpha=0.5).tolist() == [8.0, 1.0]


@pytest.mark.parametrize("alpha", [-0.1, 1.0])
def test_moving_average_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(UserError, match="alpha"):
        ema_update_(torch.zeros(1), torch.tensor([0]), torch.zeros(1), alpha)


def test_maximum_of_each_class() -> None:
    average, target = torch.tensor([1.0, 4.0, 2.0, UNSEEN, UNSEEN]), torch.tensor([0, 2, 0, 2, 3])
    members = class_members(target, 5)
    assert class_maximum(average, members).tolist() == [2.0, 0.0, 4.0, 0.0, 0.0]
    index = torch.tensor([1, 0, 2])
    assert class_normalised(average, index, target, members).tolist() == [1.0, 0.5, 1.0]


@pytest.mark.parametrize("n_targets", [1, 3, 10])
def test_maximum_of_each_class_is_that_of_a_slow_loop(n_targets: int) -> None:
    generator = torch.Generator().manual_seed(n_targets)
    target = torch.randint(0, n_targets, (50,), generator=generator)
    average = torch.randn(50, generator=generator)
    wanted = [max([0.0, *average[target == label].tolist()]) for label in range(n_targets)]
    assert class_maximum(average, class_members(target, n_targets)).tolist() == wanted


def test_class_whose_averages_are_all_zero() -> None:
    target = torch.tensor([0, 0])
    found = class_normalised(torch.zeros(2), torch.tensor([0, 1]), target, class_members(target, 1))
    assert found.tolist() == [0.0, 0.0]


def test_log_prior_counts_an_empty_cell_as_half_an_image() -> None:
    target, bias = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1])
    prior = log_prior(target, bias, n_targets=2, n_biases=3).exp()
    # Rows are biases: 3 and 1 images; 0.5 and 2; never seen.
    torch.testing.assert_close(prior, torch.tensor([[0.75, 0.25], [0.2, 0.8], [0.5, 0.5]]))


@pytest.mark.parametrize(("target", "bias", "name"), [(2, 0, "target"), (0, -1, "bias"), (0, 3, "bias")])
def test_log_prior_label_out_of_range(target: int, bias: int, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} labels"):
        log_prior(torch.tensor([0, target]), torch.tensor([0, bias]), n_targets=2, n_biases=3)


def test_bias_balanced_by_hand() -> None:
    # Flat logits: the model's probability is the prior's, 0.75 for the aligned and 0.2 for the conflicting image.
    prior = torch.tensor([[0.75, 0.25], [0.2, 0.8]]).log()
    loss = bias_balanced(torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([0, 1]), prior)
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.2)) / 2)


def test_bias_balanced_under_equal_shares_is_the_cross_entropy() -> None:
    logits, target, bias = torch.randn(9, 3), torch.arange(9) % 3, torch.arange(9) // 3
    prior = log_prior(target, bias, n_targets=3, n_biases=3)
    torch.testing.assert_close(bias_balanced(logits, target, bias, prior), cross_entropy(logits, target))


def test_weights_that_make_target_and_bias_independent() -> None:
    """M = [[6, 1], [2, 3]] by bias and target: columns sum to 8 and 4, rows to 7 and 5 of 12."""
    cells = {(0, 0): 6, (0, 1): 1, (1, 0): 2, (1, 1): 3}
    pairs = torch.tensor([pair for pair, count in cells.items() for _ in range(count)])
    weights = independence_weights(pairs[:, 1], pairs[:, 0], 2, 2)
    by_hand = {
        (0, 0): 7 / 12 / (6 / 8), (0, 1): 7 / 12 / (1 / 4), (1, 0): 5 / 12 / (2 / 8), (1, 1): 5 / 12 / (3 / 4),
    }  # fmt: skip
    for pair, weight in zip(pairs.tolist(), weights.tolist(), strict=True):
        assert weight == pytest.approx(by_hand[tuple(pair)])
    share = {pair: float(weights[(pairs == torch.tensor(pair)).all(1)].sum()) / 12 for pair in cells}
    for bias, target in cells:
        assert share[bias, target] == pytest.approx((7, 5)[bias] / 12 * (8, 4)[target] / 12)


def test_weights_of_labels_that_are_independent_are_one() -> None:
    target, bias = torch.arange(12) % 3, torch.arange(12) // 3
    torch.testing.assert_close(independence_weights(target, bias, 3, 5), torch.ones(12))
