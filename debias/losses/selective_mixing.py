"""SelecMix (Hwang et al., NeurIPS 2022): images are mixed with those that contradict them, in features of the bias.

An auxiliary network gives the features. It is trained by a contrastive loss whose weights are those of the generalised
cross-entropy, under which it settles on what is easy. Two images contradict each other that are of one class and look
least alike to it, or are of two classes and look most alike.

Temperature (.2) and q (.7) are the published ones. That a pair's weight is p^q, held constant, with p the share of the
pair in the anchor's softmax over similarities, is this project's reading.
"""

import torch
from torch import Tensor

from debias.errors import UserError


def generalised_contrastive(cosines: Tensor, target: Tensor, temperature: float = 0.2, q: float = 0.7) -> Tensor:
    """Mean over anchors, and over the other images j of an anchor's class, of -p_ij^q log p_ij, p_ij^q held constant.

    p_ij = exp(s_ij / T) / sum over k != i of exp(s_ik / T). Pairs that are unlike already hardly count, so that an
    image without the bias of its class is not pulled towards the class. With q = 0 it is the supervised contrastive
    loss (Khosla et al., NeurIPS 2020, eq. 2).

    Parameters
    ----------
    cosines : float [B, B]
        Similarities s of features of length 1.
    target : int64 [B]
    temperature : float above 0
    q : float in [0, 1]

    Returns
    -------
    float scalar >= 0; 0 with zero gradient where no class has two images.
    """
    if temperature <= 0:
        raise UserError(f"contrastive loss: the temperature is {temperature}; set it above 0 (SelecMix takes 0.2)")
    own, same = _own_and_same(target)
    similarity = cosines / temperature
    # A finite filler: with -inf a batch of one image would give NaN.
    log_all = similarity.masked_fill(own, torch.finfo(similarity.dtype).min).logsumexp(dim=1, keepdim=True)
    log_p = similarity - log_all
    positive = (same & ~own).to(similarity.dtype)
    # An image is no pair with itself, where p would be anything.
    log_p = torch.where(own, 0.0, log_p)
    each = (positive * (q * log_p.detach()).exp() * log_p).sum(dim=1)
    count = positive.sum(dim=1)
    return -(each / count.clamp_min(1)).sum() / (count > 0).sum().clamp_min(1)


def least_alike_of_class(cosines: Tensor, target: Tensor) -> Tensor:
    """For each image the least similar one of its class in the batch; itself where it is the only one.

    cosines : float [B, B]; target : int64 [B]; returns int64 [B], places in the batch
    """
    own, same = _own_and_same(target)
    return _first_of_the_largest(-cosines, same & ~own)


def most_alike_of_others(cosines: Tensor, target: Tensor) -> Tensor:
    """For each image the most similar one of another class in the batch; itself where all are of its class.

    cosines : float [B, B]; target : int64 [B]; returns int64 [B], places in the batch
    """
    return _first_of_the_largest(cosines, ~_own_and_same(target)[1])


def contradicting_partners(cosines: Tensor, target: Tensor, of_class: Tensor) -> Tensor:
    """What each image is mixed with: one kind of partner for the whole batch, as a coin says.

    Parameters
    ----------
    cosines : float [B, B]
    target : int64 [B]
    of_class : bool scalar, on the device
        Whether partners are of the image's own class and least alike, or of other classes and most alike.

    Returns
    -------
    int64 [B], places in the batch.
    """
    # Both are found: which it is stays on the device.
    return torch.where(of_class, least_alike_of_class(cosines, target), most_alike_of_others(cosines, target))


def _own_and_same(target: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of an image with itself, and pairs of one class, those with itself among them; bool [B, B] each."""
    own = torch.eye(len(target), dtype=torch.bool, device=target.device)
    return own, target.unsqueeze(1) == target


def _first_of_the_largest(values: Tensor, allowed: Tensor) -> Tensor:
    """Of each row the column of its largest value that is allowed; the row's own where none is."""
    found = values.masked_fill(~allowed, torch.finfo(values.dtype).min).argmax(dim=1)
    return torch.where(allowed.any(dim=1), found, torch.arange(len(values), device=values.device))
