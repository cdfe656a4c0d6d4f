"""The target x bias matrix of hits and counts, and every figure that is read off it.

Figures of the matrix are percentages; precision, recall and average precision are shares in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debias.errors import UserError
from debias.vocabulary import GROUP_FIGURES


def prediction_counts(prediction: Tensor, target: Tensor, bias: Tensor | None, n_targets: int, n_biases: int) -> Tensor:
    """How often each class is predicted in every target x bias cell.

    Parameters
    ----------
    prediction, target : int64 [N]
    bias : int64 [N], or None when there are no bias labels (then `n_biases` is taken as 1)

    Returns
    -------
    int64 [T, B, T] on the device of `target`, the last axis for predictions. The sum over batches is that of them all.

    Raises
    ------
    RuntimeError
        A prediction, target or bias label is outside its range (on CUDA: a device-side assertion).
    """
    if bias is None:
        n_biases, bias = 1, torch.zeros_like(target)
    # A label out of range would be counted in a neighbouring cell; -1 makes the scatter refuse it, without a sync.
    inside = (target >= 0) & (target < n_targets) & (bias >= 0) & (bias < n_biases)
    inside &= (prediction >= 0) & (prediction < n_targets)
    cell = torch.where(inside, (target * n_biases + bias) * n_targets + prediction, -1)
    # Not torch.bincount: it reads the largest value back to the host to size its result, a CPU-GPU sync per batch.
    histogram = torch.zeros(n_targets * n_biases * n_targets, dtype=torch.int64, device=target.device)
    return histogram.scatter_add_(0, cell, torch.ones_like(cell)).view(n_targets, n_biases, n_targets)


@dataclass(frozen=True, eq=False)
class GroupMatrix:
    """Hits and counts, int64 [T, B], of one model on one data set; where they are known its predictions, [T, B, T].

    A cell is aligned when its bias is one its target is tied to: the bias of the same index, or what `ties` says, int8
    [T, B]: 1 aligned, -1 conflicting, 0 neither. Figures are in percent, and None when no cell they are made of holds
    an image. With one bias column there are no bias labels, and only `average` has a value.

    Raises
    ------
    ValueError
        Hits, counts and ties do not fit each other.
    """

    hits: NDArray[np.int64]
    counts: NDArray[np.int64]
    ties: NDArray[np.int8] | None = None
    predictions: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.hits.ndim != 2 or self.hits.shape != self.counts.shape:
            raise ValueError(f"hits {self.hits.shape} and counts {self.counts.shape} must both be [targets, biases]")
        if (self.hits < 0).any() or (self.hits > self.counts).any():
            raise ValueError("a cell has fewer than 0 hits, or more hits than images")
        if self.ties is not None and self.ties.shape != self.counts.shape:
            raise ValueError(f"ties are {self.ties.shape}, but there are {self.counts.shape} cells")

    @classmethod
    def from_counts(cls, counts: Tensor, ties: Tensor | None = None) -> GroupMatrix:
        """From int64 [2, T, B], hits and counts. A CPU-GPU sync point."""
        # A copy, as on the CPU .numpy() shares memory with a tensor that may still be accumulated into.
        hits, images = counts.cpu().numpy().copy()
        return cls(hits, images, _on_host(ties, images))

    @classmethod
    def from_predictions(cls, predictions: Tensor, ties: Tensor | None = None) -> GroupMatrix:
        """From the int64 [T, B, T] of `prediction_counts`, summed over batches. A CPU-GPU sync point."""
        found = predictions.cpu().numpy().copy()
        counts = found.sum(axis=2)
        return cls(found.diagonal(axis1=0, axis2=2).T.copy(), counts, _on_host(ties, counts), predictions=found)

    @property
    def has_bias(self) -> bool:
        """Whether there are bias labels, that is more than one bias column."""
        return self.counts.shape[1] > 1

    @property
    def aligned_cells(self) -> NDArray[np.bool_]:
        """Bool [T, B], all False without bias labels."""
        if self.ties is not None:
            return self.ties == 1
        n_targets, n_biases = self.counts.shape
        return (np.arange(n_targets)[:, None] == np.arange(n_biases)) & self.has_bias

    @property
    def conflicting_cells(self) -> NDArray[np.bool_]:
        """Bool [T, B], all False without bias labels."""
        return ~self.aligned_cells & self.has_bias if self.ties is None else self.ties == -1

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Percent [T, B], nan where the cell is empty."""
        return np.where(self.counts > 0, 100.0 * self.hits / np.maximum(self.counts, 1), np.nan)

    @property
    def unbiased(self) -> float | None:
        """Mean over the non-empty cells."""
        return self._mean(np.full(self.counts.shape, self.has_bias))

    @property
    def average(self) -> float | None:
        """Share of correct images, whatever their cell (micro average)."""
        total = int(self.counts.sum())
        return 100.0 * int(self.hits.sum()) / total if total else None

    @property
    def aligned(self) -> float | None:
        """Mean over the non-empty aligned cells."""
        return self._mean(self.aligned_cells)

    @property
    def conflicting(self) -> float | None:
        """Mean over the non-empty conflicting cells."""
        return self._mean(self.conflicting_cells)

    @property
    def worst(self) -> float | None:
        """Accuracy of the worst non-empty cell."""
        filled = self.accuracy[self.counts > 0]
        return float(filled.min()) if self.has_bias and filled.size else None

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Percent [T], whatever the bias; nan where there is no image of the class."""
        counts = self.counts.sum(axis=1)
        return np.where(counts > 0, 100.0 * self.hits.sum(axis=1) / np.maximum(counts, 1), np.nan)

    @property
    def balanced(self) -> float | None:
        """Mean over the classes that have images, whatever the bias (balanced accuracy, macro average)."""
        filled = self.class_accuracy[self.counts.sum(axis=1) > 0]
        return float(filled.mean()) if filled.size else None

    @property
    def worst_class(self) -> float | None:
        """Accuracy of the worst class that has images, whatever the bias."""
        filled = self.class_accuracy[self.counts.sum(axis=1) > 0]
        return float(filled.min()) if filled.size else None

    def reweighted(self, shares: NDArray[np.float64]) -> float | None:
        """Mean over the non-empty cells, weighted by `shares`; None without bias labels, or where all of these are 0.

        shares : float [T, B], such as the shares of the groups in the training images; they need not add up to 1
        """
        filled = self.counts > 0
        if not self.has_bias or not shares[filled].sum():
            return None
        return float(np.average(self.accuracy[filled], weights=shares[filled]))

    def figures(self) -> dict[str, float]:
        """The figures of groups that have a value, in the order of `GROUP_FIGURES`, in percent."""
        values = {name: getattr(self, name) for name in GROUP_FIGURES}
        return {name: value for name, value in values.items() if value is not None}

    def _mean(self, cells: NDArray[np.bool_]) -> float | None:
        filled = self.accuracy[cells & (self.counts > 0)]
        return float(filled.mean()) if filled.size else None


def _on_host(ties: Tensor | None, counts: NDArray[np.int64]) -> NDArray[np.int8] | None:
    """Ties of a matrix of these counts; there are none without bias labels."""
    return None if ties is None or counts.shape[1] == 1 else ties.cpu().numpy()


def average_precision(score: Tensor, positive: Tensor) -> float:
    """Area under the precision-recall steps: the sum of (R_k - R_(k-1)) P_k over the distinct scores, highest first.

    Parameters
    ----------
    score : float [N], high for what should be positive; equal scores are one threshold
    positive : bool [N]

    Returns
    -------
    In [0, 1]; nan when nothing is positive, as there is nothing to find then. A CPU-GPU sync point.

    Raises
    ------
    UserError
        A score is nan.
    """
    rank, found = _ranking(score, positive)
    if not len(found) or not found[-1]:
        return math.nan
    gained = torch.diff(found, prepend=found.new_zeros(1))
    return float((gained * found / rank).sum() / found[-1])


def roc_area(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting for half (Mann-Whitney).

    Parameters, errors and the sync point are those of `average_precision`.

    Returns
    -------
    In [0, 1]; nan unless there are both positives and negatives.
    """
    rank, found = _ranking(score, positive)
    passed = rank - found
    if not len(found) or not found[-1] or not passed[-1]:
        return math.nan
    # The trapezium rule: negatives of one threshold stand half before and half behind its positives.
    before = torch.cat([found.new_zeros(1), found[:-1]])
    steps = torch.diff(passed, prepend=passed.new_zeros(1))
    return float((steps * (before + found)).sum() / (2 * found[-1] * passed[-1]))


def _ranking(score: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """By distinct score, highest first: how many images score at least as high, and how many positive ones of them.

    Both float64 [thresholds] on the host: not every accelerator has float64.
    """
    _same_length(score, positive)
    if bool(score.isnan().any()):
        raise UserError(
            "some scores are nan, so they cannot be ranked: training has diverged, try a lower learning rate"
        )
    ordered, order = score.sort(descending=True)
    found = positive[order].cumsum(0)
    last_of_tie = torch.ones_like(found, dtype=torch.bool)
    last_of_tie[:-1] = ordered[1:] != ordered[:-1]
    return (last_of_tie.nonzero().flatten() + 1).cpu().double(), found[last_of_tie].cpu().double()


def precision_recall(flag: Tensor, positive: Tensor) -> tuple[float, float]:
    """Share of the flagged that are positive, and share of the positive that are flagged.

    `flag` and `positive` are bool [N]. Precision is nan when nothing is flagged, recall when nothing is positive.
    A CPU-GPU sync point.
    """
    _same_length(flag, positive)
    found, flagged, wanted = torch.stack(((flag & positive).sum(), flag.sum(), positive.sum())).tolist()
    return (found / flagged if flagged else math.nan), (found / wanted if wanted else math.nan)


def shares(amounts: Sequence[float]) -> list[float]:
    """The share of each in the sum of all their absolute values; equal shares where all are 0."""
    total = sum(abs(amount) for amount in amounts)
    return [abs(amount) / total if total else 1 / len(amounts) for amount in amounts]


def _same_length(first: Tensor, second: Tensor) -> None:
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"expected two vectors of one length, got {tuple(first.shape)} and {tuple(second.shape)}")
