"""Supervised contrastive loss over mined positives (DCWP, CVPR 2023, arXiv 2210.05247)."""

from typing import Literal, get_args

import torch
from torch import Tensor

from debias.errors import UserError
from debias.losses.unit import unit_rows

Mask = Literal["column", "either"]


def supervised_contrastive(
    features: Tensor, target: Tensor, flag: Tensor, mask: Mask = "column", temperature: float = 0.07
) -> Tensor:
    """Pull each image towards those of its target that were mined as conflicting: L_con.

    For anchor i with positives P(i), features f scaled to length 1:
    l_i = log sum_{k != i} exp(f_i.f_k / T) - mean_{j in P(i)} f_i.f_j / T   (Khosla et al., NeurIPS 2020, eq. 2).

    Parameters
    ----------
    features : float [B, D]
        Any length; a row of zeros has no direction and gets no gradient.
    target : int64 [B]
    flag : bool or float [B]
        1 where the image was mined as conflicting, else 0.
    mask : {"column", "either"}
        Which pairs of one target are positives: "column" asks for the partner's flag alone, as the official code
        does when run; "either" for the flag of one of the two, as it seems to have been meant.
    temperature : float
        Above 0.

    Returns
    -------
    float scalar: the mean over the anchors that have positives; 0 with zero gradient when none has.
    """
    if mask not in get_args(Mask):
        raise UserError(f"contrastive loss: mask is {mask!r}; set it to one of {', '.join(get_args(Mask))}")
    if temperature <= 0:
        raise UserError(f"contrastive loss: the temperature is {temperature}; set it above 0 (the papers take 0.07)")
    if target.shape != flag.shape or target.shape != features.shape[:1]:
        raise ValueError(f"features {features.shape}, target {target.shape}, flag {flag.shape}: want [B, D], [B], [B]")

    unit = unit_rows(features)
    similarity = unit @ unit.T / temperature
    own = torch.eye(len(target), dtype=torch.bool, device=target.device)
    # A finite filler: with -inf a batch of one image would give NaN.
    log_all = similarity.masked_fill(own, torch.finfo(similarity.dtype).min).logsumexp(dim=1)

    mined = flag.to(similarity.dtype)
    chosen = mined.unsqueeze(0)
    if mask == "either":
        chosen = torch.maximum(chosen, mined.unsqueeze(1))
    positive = (target.unsqueeze(0) == target.unsqueeze(1)).logical_and(~own) * chosen

    n_positive = positive.sum(dim=1)
    anchor = (n_positive > 0).to(similarity.dtype)
    loss = log_all - (positive * similarity).sum(dim=1) / n_positive.clamp_min(1)
    return (anchor * loss).sum() / anchor.sum().clamp_min(1)
