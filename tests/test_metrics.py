import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from debias.errors import UserError
from debias.metrics import GroupMatrix, average_precision, precision_recall, prediction_counts, roc_area
from debias.vocabulary import FIGURES, GROUP_FIGURES


def matrix(hits, counts, ties=None):
    return GroupMatrix.from_counts(torch.tensor([hits, counts]), None if ties is None else torch.tensor(ties))


def group_counts(*labels) -> torch.Tensor:
    """Hits and counts, int64 [2, T, B], as they are read off the predictions."""
    found = GroupMatrix.from_predictions(prediction_counts(*labels))
    return torch.from_numpy(np.stack([found.hits, found.counts]))


def draw() -> torch.Tensor:
    """Predictions, targets (3) and biases (4) of 500 images: int64 [3, 500]."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(high, (500,), generator=generator) for high in (3, 3, 4)])


def test_counts_by_hand():
    prediction = torch.tensor([0, 1, 1, 2, 2, 0])
    target = torch.tensor([0, 0, 1, 2, 2, 2])
    bias = torch.tensor([0, 0, 1, 0, 1, 1])
    hits, counts = group_counts(prediction, target, bias, 3, 2)
    assert hits.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert counts.tolist() == [[2, 0], [0, 1], [1, 2]]


def test_predictions_by_hand():
    prediction, target, bias = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 2, 2, 2], [0, 0, 1, 0, 1, 1]])
    counts = prediction_counts(prediction, target, bias, 3, 2)
    assert counts.tolist() == [[[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 1]]]
    found = GroupMatrix.from_predictions(counts)
    assert found.predictions is not None and np.array_equal(found.predictions, counts.numpy())
    # What a matrix holds is its own: counting goes on in the tensor.
    counts += 1
    assert found.hits.sum() == 4 and found.predictions.sum() == 6


def test_counts_agree_with_a_plain_loop():
    prediction, target, bias = draw()
    expected = np.zeros((2, 3, 4), dtype=np.int64)
    for p, t, b in zip(prediction.tolist(), target.tolist(), bias.tolist(), strict=True):
        expected[:, t, b] += (p == t, 1)
    counts = group_counts(prediction, target, bias, 3, 4)
    assert counts.dtype == torch.int64
    assert np.array_equal(counts.numpy(), expected)


def test_counts_add_up_over_batches():
    prediction, target, bias = draw()
    parts = [group_counts(p, t, b, 3, 4) for p, t, b in draw().split(64, dim=1)]
    assert torch.equal(torch.stack(parts).sum(0), group_counts(prediction, target, bias, 3, 4))


def test_counts_of_no_images_are_zero():
    empty = torch.empty(0, dtype=torch.int64)
    assert torch.equal(group_counts(empty, empty, empty, 2, 3), torch.zeros(2, 2, 3, dtype=torch.int64))


def test_without_bias_there_is_one_column():
    prediction, target, bias = draw()
    counts = group_counts(prediction, target, None, 3, 4)
    assert counts.shape == (2, 3, 1)
    assert torch.equal(counts, group_counts(prediction, target, bias, 3, 4).sum(2, keepdim=True))


@pytest.mark.parametrize(
    ("prediction", "target", "bias"), [(0, 0, 2), (0, 1, -1), (0, 2, 0), (0, -1, 1), (2, 0, 0), (-1, 1, 0)]
)
def test_a_label_out_of_range_is_refused_not_counted_next_door(prediction, target, bias):
    with pytest.raises(RuntimeError, match="out of bounds"):
        prediction_counts(torch.tensor([prediction]), torch.tensor([target]), torch.tensor([bias]), 2, 2)


def test_figures_by_hand_with_an_empty_cell():
    m = matrix([[9, 1], [0, 3]], [[10, 4], [0, 4]])
    assert np.array_equal(m.accuracy, [[90.0, 25.0], [np.nan, 75.0]], equal_nan=True)
    assert m.figures() == pytest.approx(
        {"unbiased": 190 / 3, "average": 1300 / 18, "aligned": 82.5, "conflicting": 25.0, "worst": 25.0}
    )
    assert tuple(m.figures()) == GROUP_FIGURES == FIGURES[:5]
    assert all(type(value) is float for value in m.figures().values())


def test_an_empty_diagonal_leaves_aligned_out():
    m = matrix([[0, 1], [2, 0]], [[0, 4], [4, 0]])
    assert m.aligned is None
    assert m.figures() == {"unbiased": 37.5, "average": 37.5, "conflicting": 37.5, "worst": 25.0}


def test_an_empty_cell_is_not_the_worst():
    assert matrix([[4, 0], [3, 4]], [[4, 0], [4, 4]]).worst == 75.0
    assert matrix([[4, 0], [3, 4]], [[4, 1], [4, 4]]).worst == 0.0


def test_nothing_counted_has_no_figures():
    assert matrix([[0, 0], [0, 0]], [[0, 0], [0, 0]]).figures() == {}
    assert matrix([[0], [0]], [[0], [0]]).figures() == {}


def test_without_bias_labels_only_the_average_has_a_value():
    m = matrix([[3], [1]], [[4], [4]])
    assert m.figures() == {"average": 50.0}
    assert (m.unbiased, m.aligned, m.conflicting, m.worst) == (None, None, None, None)
    assert not m.aligned_cells.any()


def test_ties_move_the_diagonal():
    hits, counts = [[9, 2], [1, 8]], [[10, 10], [10, 10]]
    straight, crossed = matrix(hits, counts), matrix(hits, counts, ties=[[-1, 1], [1, -1]])
    assert (straight.aligned, straight.conflicting) == pytest.approx((85.0, 15.0))
    assert (crossed.aligned, crossed.conflicting) == pytest.approx((15.0, 85.0))
    assert crossed.unbiased == straight.unbiased


def test_more_targets_than_biases():
    m = matrix([[4, 0], [0, 4], [1, 3]], [[4, 4]] * 3)
    assert m.aligned_cells.tolist() == [[True, False], [False, True], [False, False]]
    assert (m.aligned, m.conflicting) == (100.0, 25.0)


def test_cells_without_a_tie_are_in_neither_figure():
    m = matrix([[4, 0], [1, 3], [0, 4]], [[4, 4]] * 3, [[1, -1], [0, 0], [-1, 1]])
    assert (m.aligned, m.conflicting, m.unbiased) == (100.0, 0.0, 50.0)
    none = matrix([[4, 0], [0, 4]], [[4, 4]] * 2, [[0, 0], [0, 0]])
    assert none.figures() == {"unbiased": 50.0, "average": 50.0, "worst": 0.0}


def test_ties_of_other_cells_are_refused():
    with pytest.raises(ValueError, match="ties"):
        matrix([[0, 0], [0, 0]], [[1, 1], [1, 1]], [[1, -1]])


@pytest.mark.parametrize(("hits", "counts"), [([[2]], [[1]]), ([[-1]], [[1]]), ([[1, 1]], [[1]]), ([1], [1])])
def test_hits_and_counts_must_fit(hits, counts):
    with pytest.raises(ValueError):
        GroupMatrix(np.array(hits), np.array(counts))


def test_matrix_does_not_follow_the_accumulator():
    counts = torch.tensor([[[1, 0], [0, 1]], [[2, 2], [2, 2]]])
    m = GroupMatrix.from_counts(counts)
    counts += 1
    assert m.counts.tolist() == [[2, 2], [2, 2]]


def test_average_precision_by_hand():
    score, positive = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False])
    assert average_precision(score, positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(torch.zeros(4), positive) == 0.5


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_average_precision_agrees_with_sklearn(levels, share):
    rng = np.random.default_rng(levels)
    for n in (1, 2, 17, 400):
        score = rng.integers(levels, size=n).astype(np.float32)
        positive = rng.random(n) < share
        positive[0] = True
        result = average_precision(torch.from_numpy(score), torch.from_numpy(positive))
        assert result == pytest.approx(average_precision_score(positive, score), abs=1e-12)


def test_average_precision_that_does_not_exist():
    assert math.isnan(average_precision(torch.rand(3), torch.zeros(3, dtype=torch.bool)))
    with pytest.raises(UserError, match="nan"):
        average_precision(torch.tensor([0.1, math.nan]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="one length"):
        average_precision(torch.rand(3), torch.ones(2, dtype=torch.bool))


def test_area_under_the_roc_curve_by_hand():
    score, positive = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False])
    # Of the 4 pairs only 0.7 before 0.8 is in the wrong order.
    assert roc_area(score, positive) == 0.75
    # 0.7 and 0.8 now tie: the pair counts for half.
    assert roc_area(torch.tensor([0.9, 0.8, 0.8, 0.1]), positive) == 0.875
    assert roc_area(torch.zeros(4), positive) == 0.5
    assert roc_area(-score, positive) == 0.25
    assert roc_area(torch.tensor([0.1, 0.2]), torch.tensor([False, True])) == 1.0


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_area_under_the_roc_curve_agrees_with_all_pairs_and_sklearn(levels, share):
    rng = np.random.default_rng(levels)
    for n in (2, 3, 17, 120):
        score = rng.integers(levels, size=n).astype(np.float32)
        positive = rng.random(n) < share
        positive[:2] = True, False
        pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
        found = roc_area(torch.from_numpy(score), torch.from_numpy(positive))
        assert found == pytest.approx(np.mean(pairs), abs=1e-12)
        assert found == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
        # It does not change with the scale of scores, and is mirrored with their sign.
        assert roc_area(torch.from_numpy(2 * score + 1), torch.from_numpy(positive)) == found
        assert roc_area(torch.from_numpy(-score), torch.from_numpy(positive)) == pytest.approx(1 - found, abs=1e-12)


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_area_under_the_roc_curve_of_one_class_does_not_exist(positive):
    assert math.isnan(roc_area(torch.rand(len(positive)), torch.tensor(positive, dtype=torch.bool)))


def test_scores_that_cannot_be_ranked():
    with pytest.raises(UserError, match="nan"):
        roc_area(torch.tensor([0.1, math.nan]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="one length"):
        roc_area(torch.rand(3), torch.ones(2, dtype=torch.bool))


def test_figures_of_classes_by_hand():
    m = matrix([[9, 1], [0, 3], [0, 0]], [[10, 10], [0, 4], [0, 0]])
    assert np.array_equal(m.class_accuracy, [50.0, 75.0, np.nan], equal_nan=True)
    assert (m.balanced, m.worst_class) == (62.5, 50.0)
    assert matrix([[0]], [[0]]).balanced is None and matrix([[0]], [[0]]).worst_class is None


def test_balanced_accuracy_agrees_with_sklearn():
    prediction, target, bias = draw()
    m = GroupMatrix.from_predictions(prediction_counts(prediction, target, bias, 3, 4))
    assert m.balanced == pytest.approx(100 * balanced_accuracy_score(target, prediction))
    alone = GroupMatrix.from_predictions(prediction_counts(prediction, target, None, 3, 4))
    assert (alone.balanced, alone.worst_class) == (m.balanced, m.worst_class)


def test_accuracy_reweighted_by_shares_by_hand():
    m = matrix([[9, 1], [0, 3]], [[10, 4], [0, 4]])
    # 90, 25 and 75 % by shares of 0.6, 0.1 and 0.1; what the empty cell weighs goes to the others.
    assert m.reweighted(np.array([[0.6, 0.1], [0.2, 0.1]])) == pytest.approx((0.6 * 90 + 0.1 * 25 + 0.1 * 75) / 0.8)
    assert m.reweighted(np.full((2, 2), 0.25)) == pytest.approx(m.unbiased)
    assert m.reweighted(m.counts / m.counts.sum()) == pytest.approx(m.average)
    assert m.reweighted(np.array([[0, 0], [1.0, 0]])) is None
    assert matrix([[1], [1]], [[2], [2]]).reweighted(np.ones((2, 1))) is None


def test_precision_and_recall():
    flag = torch.tensor([True, True, True, False, False])
    positive = torch.tensor([True, False, False, True, False])
    assert precision_recall(flag, positive) == pytest.approx((1 / 3, 1 / 2))
    precision, recall = precision_recall(torch.zeros_like(flag), positive)
    assert math.isnan(precision) and recall == 0.0
    precision, recall = precision_recall(flag, torch.zeros_like(flag))
    assert precision == 0.0 and math.isnan(recall)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_counting_does_not_wait_for_the_gpu():
    prediction, target, bias = draw().cuda()
    prediction_counts(prediction, target, bias, 3, 4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts = prediction_counts(prediction, target, bias, 3, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(counts.cpu(), prediction_counts(prediction.cpu(), target.cpu(), bias.cpu(), 3, 4))
