"""What is measured of logits in a pass over a split, chosen by the kind of data.

Predictions are counted once, in the target x bias matrix; a figure that can be read off it is a line in `READINGS`. One
that needs the logits themselves is an evaluator of its own, and a line in `EVALUATORS`. Either has its name in
`vocabulary.FIGURES`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from debias.data.split import Task
from debias.metrics import GroupMatrix, average_precision, prediction_counts, roc_area


class Evaluator(Protocol):
    """Takes in the logits of one read-out, batch by batch, and gives figures in the end."""

    def update(self, logits: Tensor, target: Tensor, bias: Tensor | None) -> None:
        """Take in a batch: logits [B, T] and labels, int64 [B]. Nothing here waits for the device."""

    def figures(self) -> dict[str, float]:
        """In percent, by name; what has no value is left out. A CPU-GPU sync point."""


Figures = Mapping[str, float | None]
Reading = Callable[[GroupMatrix], Figures]


class Groups:
    """The target x bias matrix: its own figures, and those of `readings`.

    Parameters
    ----------
    n_targets, n_biases
        Size of the matrix; without bias labels it has one column.
    readings
        Further figures of the matrix.
    ties
        As of the task.
    """

    def __init__(
        self, n_targets: int, n_biases: int, readings: Iterable[Reading] = (), ties: Tensor | None = None
    ) -> None:
        self._ties = ties
        self._shape = (n_targets, n_biases)
        self._readings = tuple(readings)
        self._counts: Tensor | None = None
        self._matrix: GroupMatrix | None = None

    def update(self, logits: Tensor, target: Tensor, bias: Tensor | None) -> None:
        counts = prediction_counts(logits.argmax(1), target, bias, *self._shape)
        self._counts = counts if self._counts is None else self._counts + counts
        self._matrix = None

    def matrix(self) -> GroupMatrix:
        """Of all that was taken in, which is at least a batch. A CPU-GPU sync point."""
        if self._matrix is None:
            assert self._counts is not None
            self._matrix = GroupMatrix.from_predictions(self._counts, self._ties)
        return self._matrix

    def figures(self) -> dict[str, float]:
        matrix = self.matrix()
        found: dict[str, float | None] = dict(matrix.figures())
        for reading in self._readings:
            found |= reading(matrix)
        return {name: value for name, value in found.items() if value is not None}


class TwoClassScores:
    """Of two classes, how well the score of the second, the difference of the logits, ranks its images first.

    Area under the ROC curve and average precision do not depend on a threshold, and so not on how common the class is
    in training. Where training has diverged, scores are nan and neither has a value.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._positive: list[Tensor] = []

    def update(self, logits: Tensor, target: Tensor, bias: Tensor | None) -> None:
        self._scores.append(logits[:, 1].float() - logits[:, 0].float())
        self._positive.append(target == 1)

    def figures(self) -> dict[str, float]:
        # To the host first: each of the two would wait for the device more than once.
        score, positive = torch.cat(self._scores).cpu(), torch.cat(self._positive).cpu()
        if bool(score.isnan().any()):
            return {}
        found = {"auroc": roc_area(score, positive), "average_precision": average_precision(score, positive)}
        return {name: 100.0 * value for name, value in found.items() if value == value}


def of_classes(task: Task) -> Reading | None:
    """Without bias labels: the mean over classes, which rare ones do not drown in, and the worst class."""
    if task.test.bias is not None:
        return None
    return lambda matrix: {"balanced": matrix.balanced, "worst_class": matrix.worst_class}


def as_in_training(task: Task) -> Reading | None:
    """With bias labels: what the model would reach on images whose groups are as common as in training."""
    shares = task.group_shares
    if shares is None:
        return None
    return lambda matrix: {"reweighted": matrix.reweighted(shares)}


def of_two_classes(task: Task) -> Evaluator | None:
    return TwoClassScores() if task.n_targets == 2 else None


# Each gives None for data that it is not for.
READINGS: tuple[Callable[[Task], Reading | None], ...] = (as_in_training, of_classes)
EVALUATORS: tuple[Callable[[Task], Evaluator | None], ...] = (of_two_classes,)


def groups_of(task: Task) -> Groups:
    """The matrix of a task, with the readings that its data allow."""
    readings = [made for reading in READINGS if (made := reading(task)) is not None]
    return Groups(task.n_targets, task.n_biases, readings, task.ties)


def others_of(task: Task) -> list[Evaluator]:
    """The evaluators beside the matrix that are for a task's data."""
    return [made for evaluator in EVALUATORS if (made := evaluator(task)) is not None]
