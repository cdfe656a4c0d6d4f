"""How far two networks' features of the same images depend on each other: HSIC with Gaussian kernels (ReBias).

HSIC is 0 where features are independent. Estimator (unbiased) and kernel radius (1) are those of the settings of ReBias
(Bahng et al., ICML 2020). The estimator is that of Song et al. (JMLR 2012): with K and L the kernel matrices of n
images, their diagonals set to 0,

    HSIC = 1 / (n (n - 3)) * [ tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 / (n - 2) * 1'K L1 ]

It is right on average, so that it can be a little below 0. A constant on all values off the diagonal changes nothing.
What is not said is how the radius stands in the kernel: here, as is usual, exp(-|x - z|^2 / (2 radius^2)).
"""

import torch
from torch import Tensor

FEWEST = 4  # images that the estimator needs


def gaussian_kernel(features: Tensor, radius: float) -> Tensor:
    """exp(-|x_i - x_j|^2 / (2 radius^2)) of all pairs, float [B, B]. features : float [B, D]; radius : above 0"""
    # Distances stay the same, and lose fewer digits.
    centred = features - features.detach().mean(dim=0)
    squared = centred.square().sum(dim=1)
    distance = squared.unsqueeze(1) + squared - 2 * centred @ centred.T
    return (distance.clamp_min(0) / (-2 * radius**2)).exp()


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """The estimate from two kernel matrices.

    Parameters
    ----------
    first, second : float [B, B]
        Symmetric; their diagonals do not count.

    Returns
    -------
    float scalar; 0 with zero gradient for fewer than 4 images, of which there is no estimate.
    """
    count = len(first)
    if count < FEWEST:
        return 0 * (first.sum() + second.sum())
    others = 1 - torch.eye(count, dtype=first.dtype, device=first.device)
    first, second = first * others, second * others
    rows, other_rows = first.sum(dim=1), second.sum(dim=1)
    pairs = (first * second).sum()
    apart = rows.sum() * other_rows.sum() / ((count - 1) * (count - 2))
    joined = 2 / (count - 2) * (rows * other_rows).sum()
    return (pairs + apart - joined) / (count * (count - 3))


def dependence(features: Tensor, others: Tensor, radius: float = 1.0) -> Tensor:
    """HSIC of two networks' features of the same images, both under a Gaussian kernel of one radius.

    Parameters
    ----------
    features : float [B, D]
    others : float [B, E]
    radius : float above 0

    Returns
    -------
    float scalar, at most about 1/4.
    """
    return unbiased_hsic(gaussian_kernel(features, radius), gaussian_kernel(others, radius))
