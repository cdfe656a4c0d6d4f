"""Learning Not to Learn (Kim et al., CVPR 2019): features from which the bias cannot be told.

A predictor h reads the bias b off the features f(x). The classifier is trained so that h is as unsure as possible (its
entropy, section 3.2), and, through a reversed gradient, so that h is wrong (equation 5).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

IGNORED = 255


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` as it is; its gradient is multiplied by -factor (Ganin & Lempitsky, ICML 2015)."""
    return _Reversed.apply(x, factor)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def negative_entropy(logits: Tensor) -> Tensor:
    """Mean over images, channels and pixels of sum_k p_k log p_k, in nats: the smaller, the less sure h is.

    logits : float [B, C, K, H, W], K bins; returns a float scalar in [-log K, 0]. Of all pixels, as in the published
    code: h is never told anything about those of the background, but is to be unsure about them as well.
    """
    # Through log p: a probability that underflows would give 0 * log 0, which is not a number.
    log_p = log_softmax(logits, dim=2)
    return (log_p.exp() * log_p).sum(dim=2).mean()


def bias_loss(logits: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy of h, the mean over the labelled pixels of each channel, summed over the channels.

    Parameters
    ----------
    logits : float [B, C, K, H, W]
    bins : uint8 or int64 [B, C, H, W]
        0..K-1, or 255 where there is no label.

    Returns
    -------
    float scalar in nats; a channel without any label adds 0.
    """
    labels = bins.long()
    each = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    known = (labels != IGNORED).sum(dim=(0, 2, 3))
    return (each.sum(dim=(0, 2, 3)) / known.clamp_min(1)).sum()


def bias_accuracy(logits: Tensor, bins: Tensor) -> Tensor:
    """Percent of the labelled pixels and channels whose bin h gets right; 0 without labels. As for `bias_loss`."""
    known = bins != IGNORED
    right = (logits.argmax(dim=2) == bins) & known
    return 100 * right.sum() / known.sum().clamp_min(1)
