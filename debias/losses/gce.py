"""Generalised cross-entropy and its relatives: losses under which a network settles on what is easy.

Source: Zhang & Sabuncu, NeurIPS 2018. LfF (Nam et al., NeurIPS 2020) trains its biased network with it, and so does
DCWP (CVPR 2023, arXiv 2210.05247), which also knows the confident variant.
"""

from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from debias.errors import UserError


def gce(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """Mean of (1 - p_y^q) / q; its gradient is the cross-entropy's times p_y^q.

    Parameters
    ----------
    logits : float [B, C]
    target : int64 [B]
    q : float in (0, 1]
        Towards 0 the loss becomes the cross-entropy, at 1 it is 1 - p_y.

    Returns
    -------
    float scalar in [0, 1/q].
    """
    _check_q(q)
    # p ** q has infinite slope at p = 0; through log p both value and gradient stay finite.
    return -(q * _log_p(logits, target)).expm1().mean() / q


def gce_lff(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """Mean of q * p_y^q * CE with p_y^q held constant: the form in the code of LfF and DCWP.

    Its gradient is q times that of `gce`. Arguments as there; returns a float scalar >= 0.
    """
    _check_q(q)
    log_p = _log_p(logits, target)
    return -(q * (q * log_p.detach()).exp() * log_p).mean()


def confident_cross_entropy(logits: Tensor, target: Tensor, eta: float = 0.05) -> Tensor:
    """Cross-entropy averaged over the samples with p_y > eta only (DCWP's ensemble mining).

    Parameters
    ----------
    logits : float [B, C]
    target : int64 [B]
    eta : float
        Probability. The selection carries no gradient.

    Returns
    -------
    float scalar in nats; 0 with zero gradient when no sample is selected.
    """
    log_p = _log_p(logits, target)
    confident = (log_p.detach().exp() > eta).to(log_p.dtype)
    return -(confident * log_p).sum() / confident.sum().clamp_min(1)


def _log_p(logits: Tensor, target: Tensor) -> Tensor:
    return log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """log((1 - p(target)) / p(target)) of each image, float32 [B]: the order of `doubt`, also where that is 1 or 0 to
    the last bit."""
    logits = logits.double()
    others = logits.scatter(1, target.unsqueeze(1), float("-inf")).logsumexp(1)
    return (others - logits.gather(1, target.unsqueeze(1)).squeeze(1)).float()


def doubt(logits: Tensor, target: Tensor) -> Tensor:
    """1 - p(target) of each image, [B] in [0, 1]: how little a prediction believes in the target."""
    return 1 - softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)


def _check_q(q: float) -> None:
    if not 0 < q <= 1:
        raise UserError(f"generalised cross-entropy: q is {q}; set it above 0 and at most 1 (the papers take 0.7)")
