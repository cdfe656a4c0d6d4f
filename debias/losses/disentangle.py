"""DisEnt (Lee et al., NeurIPS 2021): features of target and bias apart, and bias features exchanged between images.

Two classifiers see the features of both encoders, [target, bias]. Each is to move its own encoder alone, so the other's
features enter without gradient. One is trained by generalised cross-entropy and takes up the bias; the other's images
are weighed by how much harder the first finds them (LfF). Once the two are apart, bias features of another image take
the place of an image's own: the target's classifier is to answer as before, the bias's to follow the features.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.losses.gce import gce_lff


def seen_by_each(target: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """What the target's and the bias's classifier are given: the features of both, those of the other held constant.

    target : float [B, F]; bias : float [B, G]; returns float [B, F + G] twice
    """
    return torch.cat([target, bias.detach()], dim=1), torch.cat([target.detach(), bias], dim=1)


def disentangling(
    target_logits: Tensor,
    bias_logits: Tensor,
    target: Tensor,
    looks_like: Tensor,
    weight: Tensor,
    share: float,
    q: float,
) -> Tensor:
    """mean(weight * CE(target_logits, target)) + share * GCE(bias_logits, looks_like), in LfF's form of the latter.

    Parameters
    ----------
    target_logits, bias_logits : float [B, C]
    target : int64 [B]
    looks_like : int64 [B]
        Class of the image that the bias features are of: `target`, or with exchanged features that of the other image.
    weight : float [B]
        Relative difficulty, without gradient.

    Returns
    -------
    float scalar.
    """
    each = cross_entropy(target_logits, target, reduction="none")
    return (weight * each).mean() + share * gce_lff(bias_logits, looks_like, q)
