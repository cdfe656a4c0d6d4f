"""Logit correction with group mixup (Liu et al., ICLR 2023): a prior that a biased network gives, learnt around.

What a biased network takes an image for is a pseudo bias label a. With P[y, a] the share of images of class y that it
takes for a, the loss of another network's logits f is CE(f(x) + log(P[:, a] + 1e-4), y): what the bias gives away need
not be learnt. Images are mixed with others of their class that the biased network gets wrong.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

LEAST = 1e-4


def class_means(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean prediction of each class in a batch, and which classes it has.

    Parameters
    ----------
    probability : float [B, C]
    target : int64 [B]

    Returns
    -------
    float [C, C], a row for each class, 0 for one that is absent; bool [C]. Without gradient.
    """
    classes = torch.arange(probability.shape[1], device=target.device).unsqueeze(1)
    # By a matrix product: an indexed addition is not deterministic on a GPU.
    member = (classes == target).to(probability.dtype)
    counts = member.sum(dim=1)
    return (member @ probability.detach()) / counts.clamp_min(1).unsqueeze(1), counts > 0


def moved_prior(prior: Tensor, means: Tensor, present: Tensor, momentum: float) -> Tensor:
    """A moving average of `class_means`: momentum * old + (1 - momentum) * new, where a class is present.

    prior, means : float [C, C]; present : bool [C]
    """
    return torch.where(present.unsqueeze(1), momentum * prior + (1 - momentum) * means, prior)


def corrected_cross_entropy(logits: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Mean cross-entropy of logits + log(share + 1e-4).

    Parameters
    ----------
    logits : float [B, C]
    target : int64 [B]
    share : float [B, C] in [0, 1]
        P[:, a] of each image; for an image mixed of two, mixed alike.

    Returns
    -------
    float scalar in nats.
    """
    return cross_entropy(logits + (share + LEAST).log(), target)


def minority_partners(target: Tensor, minority: Tensor, draws: Tensor) -> Tensor:
    """For each image one of the batch's minority images of its class, drawn evenly; itself where there is none.

    Parameters
    ----------
    target : int64 [B]
    minority : bool [B]
    draws : float [B, B] in [0, 1)
        Even draws, independent of each other.

    Returns
    -------
    int64 [B], places in the batch.
    """
    fits = (target.unsqueeze(1) == target) & minority
    chosen = torch.where(fits, draws, -1.0).argmax(dim=1)
    return torch.where(fits.any(dim=1), chosen, torch.arange(len(target), device=target.device))


def mixing_share(draws: Tensor, tau: Tensor | float) -> Tensor:
    """Share of the image itself in a mixture, from U(1 - 2 tau, 1 - tau): 1 at tau = 0, below 1/2 at tau = 1/2.

    draws : float [B] in [0, 1)
    """
    return 1 - 2 * tau + tau * draws


def sigmoid_ramp(done: Tensor) -> Tensor:
    """exp(-5 (1 - done)^2), from .0067 at 0 to 1 at 1 and beyond. done : float, share of the way, at least 0"""
    return (-5 * (1 - done.clamp(0, 1)).square()).exp()
