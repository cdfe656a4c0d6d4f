"""Weights for samples and for logits: LfF's relative difficulty, and the bias-balanced loss.

Sources: Learning from Failure (Nam et al., NeurIPS 2020); Unbiased Classification through Bias-Contrastive and
Bias-Balanced Learning (Hong & Yang, NeurIPS 2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.errors import UserError

UNSEEN = -1.0
"""Average of a sample that was never updated. A cross-entropy is never negative, so the value is free."""


def relative_difficulty(ce_biased: Tensor, ce_debiased: Tensor) -> Tensor:
    """W(x) = CE_b / (CE_b + CE_d) of LfF: near 1 for what the biased network fails on, near 0 for what it finds easy.

    Parameters
    ----------
    ce_biased, ce_debiased : float [B], >= 0
        Per-sample cross-entropies, in LfF their averages after `class_normalised`.

    Returns
    -------
    float [B] in [0, 1], without gradient; 0 where both are 0.
    """
    biased, debiased = ce_biased.detach(), ce_debiased.detach()
    return biased / (biased + debiased + 1e-8)


def ema_update_(average: Tensor, index: Tensor, value: Tensor, alpha: float = 0.7) -> Tensor:
    """Per-sample moving average, in place: alpha * old + (1 - alpha) * value; a sample's first value is taken whole.

    Parameters
    ----------
    average : float [N]
        Start from `torch.full((N,), UNSEEN)`.
    index : int64 [B]
        Position of each value in `average`. Of a sample that is in the batch twice the larger result is kept, so
        that the outcome does not depend on the order in which a device writes.
    value : float [B], >= 0
    alpha : float in [0, 1)

    Returns
    -------
    `average`; entries not in `index` are unchanged.
    """
    if not 0 <= alpha < 1:
        raise UserError(f"moving average: alpha is {alpha}; set it to at least 0 and below 1 (LfF takes 0.7)")
    old, value = average[index], value.detach()
    updated = torch.where(old < 0, value, alpha * old + (1 - alpha) * value)
    return average.scatter_reduce_(0, index, updated, "amax", include_self=False)


class Members(NamedTuple):
    """The samples of each target: positions, int64 [n_targets, most], short rows filled up with their own first sample;
    and float [n_targets], 0 for a target without samples, else 1."""

    positions: Tensor
    occupied: Tensor

    def to(self, device: torch.device) -> "Members":
        return Members(self.positions.to(device), self.occupied.to(device))


def class_members(target: Tensor, n_targets: int) -> Members:
    """Where the samples of each target are, for `class_maximum`. Meant to be called once: it waits for the device.

    Parameters
    ----------
    target : int64 [N]
    """
    counts = torch.bincount(target, minlength=n_targets)
    start = counts.cumsum(0) - counts
    place = torch.arange(int(counts.max()), device=target.device).expand(n_targets, -1)
    place = start.unsqueeze(1) + torch.where(place < counts.unsqueeze(1), place, 0)
    order = torch.argsort(target, stable=True)
    return Members(order[place.clamp_max(len(target) - 1)], (counts > 0).float())


def class_maximum(average: Tensor, members: Members) -> Tensor:
    """Largest average of each target's samples.

    Gathered and reduced row by row: a scatter of all samples onto a few targets would be as many atomic operations on
    a few addresses, most of the time of a step on a GPU.

    Parameters
    ----------
    average : float [N]
    members
        From `class_members`.

    Returns
    -------
    float [n_targets]; 0 for a target with no samples, or none seen.
    """
    return (average[members.positions].amax(dim=1) * members.occupied).clamp_min(0)


def class_normalised(average: Tensor, index: Tensor, target: Tensor, members: Members) -> Tensor:
    """Averages of the samples at `index`, each divided by the largest of its target.

    Parameters
    ----------
    average : float [N]
    index : int64 [B]
    target : int64 [N]
        Of all N samples.
    members
        From `class_members` of `target`.

    Returns
    -------
    float [B] in [0, 1] for samples that were seen.
    """
    largest = class_maximum(average, members)
    return average[index] / largest[target[index]].clamp_min(1e-8)


def log_prior(target: Tensor, bias: Tensor, n_targets: int, n_biases: int, independent: float = 0.0) -> Tensor:
    """log p(target | bias) from the counts of a training set, for `bias_balanced`. Meant to be called once.

    An empty cell counts as half an image: its logarithm stays finite, and a bias whose targets all occur keeps
    exactly the observed shares. A bias that never occurs gets equal shares.

    Parameters
    ----------
    target, bias : int64 [N]
    independent : share of the images, in [0, 1], whose bias is drawn again, whatever their target

    Returns
    -------
    float32 [n_biases, n_targets]; the exponentials of each row sum to 1.

    Raises
    ------
    UserError
        When a label lies outside its range.
    """
    for name, label, n in (("target", target, n_targets), ("bias", bias, n_biases)):
        if label.numel() and (int(label.min()) < 0 or int(label.max()) >= n):
            raise UserError(
                f"bias-balanced loss: {name} labels run from {int(label.min())} to {int(label.max())}, but there are "
                f"{n} {name} classes; number the labels 0 to {n - 1} or raise the number of classes"
            )
    cell = bias * n_targets + target
    counts = torch.bincount(cell, minlength=n_biases * n_targets).reshape(n_biases, n_targets).float()
    if independent:
        drawn = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / counts.sum().clamp_min(1)
        counts = (1 - independent) * counts + independent * drawn
    counts = counts.clamp_min(0.5)
    return (counts / counts.sum(dim=1, keepdim=True)).log()


def bias_balanced(logits: Tensor, target: Tensor, bias: Tensor, log_prior: Tensor) -> Tensor:
    """Mean cross-entropy of logits + log p(y | b): what the bias gives away need not be learnt by the network.

    Parameters
    ----------
    logits : float [B, n_targets]
    target, bias : int64 [B]
        The bias may be true or mined.
    log_prior : float [n_biases, n_targets]
        From the function `log_prior`.

    Returns
    -------
    float scalar in nats.
    """
    return cross_entropy(logits + log_prior[bias], target)


def independence_weights(target: Tensor, bias: Tensor, n_targets: int, n_biases: int) -> Tensor:
    """Weights under which target and bias are independent, and each as common as before. Meant to be called once.

    With M[s, y] the number of images of bias s and target y, P its columns divided by their sums and q the shares of
    its rows, the weight of an image is q[s] / P[s, y].

    Parameters
    ----------
    target, bias : int64 [N]
        The bias may be true or mined.

    Returns
    -------
    float32 [N]; with every pair of target and bias present they sum to N.
    """
    cell = bias * n_targets + target
    # On the CPU, where sums are exact whatever their order.
    counts = torch.bincount(cell.cpu(), minlength=n_biases * n_targets).reshape(n_biases, n_targets).double()
    column = counts / counts.sum(dim=0).clamp_min(1)
    row = counts.sum(dim=1, keepdim=True) / counts.sum().clamp_min(1)
    return (row / column.clamp_min(1e-12)).float().flatten().to(target.device)[cell]
