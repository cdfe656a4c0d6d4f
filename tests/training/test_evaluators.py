"""Figures of a pass: those of the matrix and those of scores, chosen by the kind of data, by batch as together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from debias.data.split import Split, Task
from debias.metrics import GroupMatrix, average_precision, prediction_counts, roc_area
from debias.training import evaluation
from debias.training.evaluation import evaluate, evaluate_on_tests
from debias.training.evaluators import Groups, TwoClassScores, groups_of, others_of
from debias.vocabulary import FIGURES, GROUP_FIGURES
from tests.training.test_sync import Refusing

CLASS_FIGURES = {"balanced", "worst_class"}
SCORE_FIGURES = {"auroc", "average_precision"}


def split(n: int, classes: int, biases: int | None, seed: int = 0) -> Split:
    """Images whose pixels are the logits of their classes, with levels that tie."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(20, (n, classes, 1, 1), generator=generator, dtype=torch.uint8)
    target = torch.randint(classes, (n,), generator=generator)
    bias = None if biases is None else torch.randint(biases, (n,), generator=generator)
    return Split(pixels, target, bias, torch.arange(n))


def task(classes: int, biases: int | None, **changes: object) -> Task:
    names = [tuple(map(str, range(count))) for count in (classes, biases or 0)]
    train, test = split(60, classes, biases, 1), split(300, classes, biases)
    return replace(Task("pixels", train, test, None, names[0], names[1] or None, "key"), **changes)


class Pixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) * 255).round()


def measured(data: Task, part: Split | None = None) -> dict[str, float]:
    model = Pixels()
    found = evaluate(model, lambda images: {"model": model(images)}, data, part or data.test)
    return dict(found["model"].figures)


@pytest.mark.parametrize(
    ("classes", "biases", "more"),
    [
        (3, 3, {"reweighted"}),
        (2, 2, {"reweighted"} | SCORE_FIGURES),
        (3, None, CLASS_FIGURES),
        (2, None, CLASS_FIGURES | SCORE_FIGURES),
    ],
)
def test_figures_go_by_the_kind_of_data(classes, biases, more):
    groups = set(GROUP_FIGURES) if biases else {"average"}
    found = measured(task(classes, biases))
    assert set(found) == groups | more <= set(FIGURES)
    assert all(type(value) is float and 0 <= value <= 100 for value in found.values())


def test_withheld_bias_labels_give_no_figure_of_groups():
    data = task(3, 3)
    assert set(measured(data, data.test.without_bias())) == {"average"}
    unlabelled = replace(data, train=data.train.without_bias())
    assert set(measured(unlabelled)) == set(GROUP_FIGURES)


def test_groups_are_counted_once_for_all_figures(monkeypatch):
    """Also those of the matrix that the data add: a batch costs one count, whatever is read off it."""
    counted = []
    monkeypatch.setattr(
        "debias.training.evaluators.prediction_counts", lambda *given: counted.append(1) or prediction_counts(*given)
    )
    monkeypatch.setattr(evaluation, "_VALUES", 100 * 2)
    for data in (task(2, 2), task(2, None)):
        counted.clear()
        measured(data)
        assert len(counted) == 3


@pytest.mark.parametrize("biases", [2, None])
def test_batches_give_what_a_slow_loop_gives(monkeypatch, biases):
    monkeypatch.setattr(evaluation, "_VALUES", 7 * 2)
    data = task(2, biases)
    hits: dict[tuple[int, int], list[bool]] = {}
    score, positive = [], []
    logits = data.test.images.flatten(1)
    for place, (no, yes) in enumerate(logits.tolist()):
        target = int(data.test.target[place])
        bias = 0 if data.test.bias is None else int(data.test.bias[place])
        hits.setdefault((target, bias), []).append((yes > no) == bool(target))
        score.append(yes - no)
        positive.append(target == 1)
    found = measured(data)
    accuracy = {cell: 100 * np.mean(right) for cell, right in hits.items()}
    assert found["average"] == pytest.approx(100 * np.mean(np.concatenate(list(hits.values()))))
    ranked = list(zip(score, positive, strict=True))
    pairs = [(a > b) + (a == b) / 2 for a, known in ranked if known for b, other in ranked if not other]
    assert found["auroc"] == pytest.approx(100 * np.mean(pairs))
    if biases is None:
        assert found["balanced"] == pytest.approx(np.mean(list(accuracy.values())))
        assert found["worst_class"] == pytest.approx(min(accuracy.values()))
    else:
        assert data.train.bias is not None
        train = list(zip(data.train.target.tolist(), data.train.bias.tolist(), strict=True))
        share = {cell: train.count(cell) / len(train) for cell in accuracy}
        assert found["reweighted"] == pytest.approx(sum(share[cell] * accuracy[cell] for cell in accuracy))
        assert found["unbiased"] == pytest.approx(np.mean(list(accuracy.values())))


def test_scores_of_batches_are_those_of_all():
    scores = TwoClassScores()
    data = split(100, 2, None)
    logits, target = data.images.flatten(1).float(), data.target
    for part, own in zip(logits.split(30), target.split(30), strict=True):
        scores.update(part, own, None)
    score, positive = logits[:, 1] - logits[:, 0], target == 1
    expected = {"auroc": roc_area(score, positive), "average_precision": average_precision(score, positive)}
    assert scores.figures() == {name: 100 * value for name, value in expected.items()}


def test_scores_that_are_nan_or_of_one_class_have_no_figures():
    target = torch.tensor([0, 1])
    for logits, labels, names in (
        (torch.tensor([[0.0, 1.0], [0.0, float("nan")]]), target, set()),
        (torch.tensor([[0.0, 1.0], [0.0, 2.0]]), torch.ones_like(target), {"average_precision"}),
        (torch.tensor([[0.0, 1.0], [0.0, 2.0]]), torch.zeros_like(target), set()),
    ):
        scores = TwoClassScores()
        scores.update(logits, labels, None)
        assert set(scores.figures()) == names


def test_nothing_waits_for_the_device_before_the_end():
    data = split(50, 2, 2)
    evaluators = [groups_of(task(2, 2)), *others_of(task(2, 2))]
    with Refusing():
        for evaluator in evaluators:
            evaluator.update(data.images.flatten(1).float(), data.target, data.bias)
    assert all(evaluator.figures() for evaluator in evaluators)


def test_the_matrix_follows_what_is_taken_in():
    groups, data = Groups(2, 2), split(50, 2, 2)
    logits = data.images.flatten(1).float()
    groups.update(logits, data.target, data.bias)
    assert groups.matrix().counts.sum() == 50
    groups.update(logits, data.target, data.bias)
    assert groups.matrix().counts.sum() == 100
    assert groups.figures() == groups.matrix().figures()


def test_extra_tests_have_figures_of_their_own():
    data = task(2, 2, extra_tests={"grey": split(40, 2, None, 3)})
    model = Pixels()
    found = evaluate_on_tests(model, lambda images: {"model": model(images)}, data)
    assert list(found) == ["model", "model@grey"]
    assert set(found["model@grey"].figures) == {"average"} | SCORE_FIGURES
    assert isinstance(found["model@grey"].matrix, GroupMatrix) and not found["model@grey"].matrix.has_bias


def test_shares_of_the_training_groups():
    data = task(2, 3)
    shares = data.group_shares
    assert shares is not None and shares.shape == (2, 3) and shares.sum() == pytest.approx(1)
    assert data.train.bias is not None
    cell = (data.train.target == 1) & (data.train.bias == 2)
    assert shares[1, 2] == pytest.approx(float(cell.double().mean()))
    assert replace(data, train=data.train.without_bias()).group_shares is None
