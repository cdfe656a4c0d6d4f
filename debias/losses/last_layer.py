"""Losses of a last layer alone, on the features of a frozen network: AFR (ICML 2023) and DFR (ICLR 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def doubted_weights(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """AFR's weights: exp(-gamma p(target)) / images of the target, divided by their sum.

    Parameters
    ----------
    logits : float [N, C]
        Of the network before its last layer is trained again.
    target : int64 [N]
    gamma : float >= 0
        At 0 every class weighs the same, and every image of a class.

    Returns
    -------
    float [N] that sums to 1, without gradient.
    """
    p = torch.softmax(logits.detach(), dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    classes = torch.arange(logits.shape[1], device=target.device).unsqueeze(1)
    counts = (classes == target).to(p.dtype).sum(dim=1)
    weights = (-gamma * p).exp() / counts[target]
    return weights / weights.sum()


def pulled_back(
    logits: Tensor, target: Tensor, weights: Tensor, now: Sequence[Tensor], before: Sequence[Tensor], l2: float
) -> Tensor:
    """sum(weights * CE) + l2 * the squared distance of the last layer's tensors from what they were, a float scalar."""
    distance = torch.stack([(one - other).square().sum() for one, other in zip(now, before, strict=True)]).sum()
    return (weights * cross_entropy(logits, target, reduction="none")).sum() + l2 * distance


def sparse_logistic(features: Tensor, target: Tensor, weight: Tensor, bias: Tensor, c: float) -> Tensor:
    """Logistic regression with an L1 penalty, several at a time: the sum of CE + |weight|_1 / (c n) over all.

    Parameters
    ----------
    features : float [R, n, F]
    target : int64 [R, n]
    weight, bias : float [R, C, F], [R, C]
    c : float > 0
        Inverse strength of the penalty: c times the summed cross-entropy of n images weighs as much as |weight|_1.

    Returns
    -------
    float scalar.
    """
    logits = torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))
    n = logits.shape[1]
    each = cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum") / n
    return each + weight.abs().sum() / (c * n)


def balanced_subset(group: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of as many images of each group as the smallest has, drawn without replacement; on the CPU.

    group : int64 [N], any numbers; returns int64 [groups * smallest], sorted by group
    """
    order = torch.randperm(len(group), generator=generator)
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.unique(group, return_counts=True)[1]
    start = counts.cumsum(0) - counts
    return order[(start.unsqueeze(1) + torch.arange(int(counts.min()))).flatten()]
