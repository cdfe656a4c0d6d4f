"""Functional Fisher information of every modality (Gat et al., NeurIPS 2020), as a regulariser of a classifier.

How much does the prediction for a perturbed input vary with each modality? With f(x') the divergence of the prediction
at x' = x + noise from the one at x, the log-Sobolev inequality bounds the functional entropy of f by half of

    I_m = E |grad_m f(x')|^2 / f(x')        (their equation 12; without the division the Poincare bound of its variance)

for the part m of the input. A classifier that lives off one modality alone has little of it in the others, so that
training with 1 / I_m added makes it use them all.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

ESTIMATIONS = ("ent", "var")
METHODS = ("max_ent", "min_ent", "max_ent_minus")
# Below this an information counts as none: 1 / I stays finite, and so does its gradient.
LEAST = 1e-8
# The same for the published form, which is a mean over rows, classes and pixels: of Colored MNIST 1e-12 to 1e-10.
LEAST_PUBLISHED = 1e-30
# Divergences of predictions that agree to the last bit; the gradient over them is zero as well.
_NO_DIVERGENCE = 1e-12
# What `max_ent_minus` subtracts the information from.
CEILING = 0.1


def neighbour_distance(rows: Tensor, neighbours: int, first: int | None = None) -> Tensor:
    """Mean Euclidean distance of the first rows (None: of all) to their nearest other rows among all.

    Parameters
    ----------
    rows : float [B, ...]
        Flattened for the distance.
    neighbours : int
        How many of the others count, at least 1; all of them where there are fewer.

    Returns
    -------
    float [first] without gradient; 0 for a row that is alone.
    """
    flat = rows.detach().flatten(1)
    nearest = min(neighbours, len(flat) - 1)
    if nearest < 1:
        return flat.new_zeros(len(flat[:first]))
    distances = torch.cdist(flat[:first], flat).fill_diagonal_(torch.inf)
    return distances.topk(nearest, largest=False, sorted=False).values.mean(dim=1)


def perturbed(rows: Tensor, deviation: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """`samples` copies of every row, one after the other, each with N(0, deviation^2) added to every element.

    rows : float [B, ...]; deviation : float [B]; returns float [B * samples, ...], a leaf that wants a gradient.
    """
    copies = rows.detach().repeat_interleave(samples, dim=0)
    noise = torch.randn(copies.shape, generator=generator, device=rows.device, dtype=rows.dtype)
    spread = deviation.repeat_interleave(samples).view(-1, *[1] * (rows.ndim - 1))
    return noise.mul_(spread).add_(copies).requires_grad_()


def divergence(logits: Tensor, probability: Tensor) -> Tensor:
    """Binary cross-entropy of the perturbed logits with the clean probabilities as targets, summed over the classes.

    logits, probability : float [R, C]; returns float [R], never negative.
    """
    # Not softplus(z) - p z: the difference of two large numbers may come out below zero.
    return (probability * softplus(-logits) + (1 - probability) * softplus(logits)).sum(dim=1)


def regularised(
    predict: Callable[..., Tensor],
    probability: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[float],
    method: str = "max_ent",
    estimation: str = "ent",
    norm: float = 2.0,
) -> tuple[Tensor, list[Tensor]]:
    """`regulariser` of the information, with its gradient, at the cost of two forward and backward passes.

    The information of a modality is the mean over the rows of |grad f|^2 / f (`ent`, as in the paper) or of |grad f|^2
    (`var`), where f is the `divergence` and the gradient that by the modality's perturbed row.

    With g = J^T v for the Jacobian J of the logits and v = df / dz', the gradient of |g|^2 by the weights is that of
    2 <J g, v> with g held fixed, and J g is a derivative in one direction, which is carried along in a forward pass.
    So convolutions are never differentiated twice.

    Parameters
    ----------
    predict : callable
        Logits [R, C] of all `inputs`, each row from its own row alone.
    probability : float [R, C]
        Softmax of the clean logits, each repeated for its samples.
    inputs : float [R, ...] each
        The perturbed modalities.
    estimation : {"ent", "var"}
        |grad f|^2 / f, or |grad f|^2.
    weights, method, norm
        See `regulariser`.

    Returns
    -------
    The scalar with its gradient by the weights of `predict` and by `probability`; the information of each modality,
    without gradient. With all weights 0 the scalar is 0.
    """
    fixed = probability.detach()
    each = divergence(predict(*inputs), fixed)
    gradients = torch.autograd.grad(each.sum(), list(inputs))
    each = each.detach().clamp_min(_NO_DIVERGENCE)
    divisor = each if estimation == "ent" else torch.ones_like(each)
    squares = [gradient.flatten(1).square().sum(dim=1) / divisor for gradient in gradients]
    scores = [square.mean().requires_grad_() for square in squares]
    if not any(weights):
        return each.new_zeros(()), [score.detach() for score in scores]
    value = regulariser(scores, weights, method, norm)
    # How the value changes with each row's squared gradient.
    pulls = [slope / len(each) for slope in torch.autograd.grad(value, scores)]
    scores = [score.detach() for score in scores]

    directions = [
        pull * gradient / divisor.view(-1, *[1] * (gradient.ndim - 1))
        for pull, gradient in zip(pulls, gradients, strict=True)
    ]
    with forward_ad.dual_level():
        pairs = [
            forward_ad.make_dual(rows.detach(), direction) for rows, direction in zip(inputs, directions, strict=True)
        ]
        logits, along = forward_ad.unpack_dual(predict(*pairs))
    assert along is not None
    twin = 2 * (along * (logits.sigmoid() - probability)).sum()
    if estimation == "ent":
        ratio = torch.stack([pull * square for pull, square in zip(pulls, squares, strict=True)]).sum(dim=0) / each
        twin = twin - (ratio * divergence(logits, probability)).sum()
    # The value is the regulariser's, the gradient the twin's.
    return twin + (value.detach() - twin.detach()), scores


def published_information(
    logits: Tensor, probability: Tensor, inputs: Sequence[Tensor], estimation: str = "var"
) -> list[Tensor]:
    """The information as the published program of the Bias-Mitigation authors computes it; compare `regularised`.

    It differs in four ways. The cross-entropy's arguments are exchanged: the probabilities are taken for logits and the
    perturbed logits for targets, so that the gradient is that of -sum_c p_c z'_c and the value may be negative. It is a
    mean over rows and classes, so that the information falls with the square of both. Squared gradients are averaged
    over the pixels of an image, and summed over the values of a vector. `ent` divides by the mean loss.
    """
    loss = binary_cross_entropy_with_logits(probability, logits)
    gradients = torch.autograd.grad(loss, list(inputs), create_graph=True)
    # Their norm is taken over the second axis: an image's one channel, a vector's values.
    scores = [gradient.square().sum(dim=1).mean() for gradient in gradients]
    return [score / loss for score in scores] if estimation == "ent" else scores


def regulariser(
    scores: Sequence[Tensor], weights: Sequence[float], method: str = "max_ent", norm: float = 2.0, least: float = LEAST
) -> Tensor:
    """What is added to the loss.

    max_ent        ||(w_m / I_m)_m||: use every modality
    min_ent        ||(w_m I_m)_m||: be little sensitive to them
    max_ent_minus  sum_m w_m CEILING - ||(w_m I_m)_m||

    Parameters
    ----------
    scores : float scalars
        Information of each modality; an absolute value below `least` counts as `least`.
    weights : floats >= 0
    norm : float >= 1
        Order of the norm over modalities; with 1 it is the plain sum.
    """
    sizes = [score.abs() for score in scores]
    # The weights stay numbers of the host: a tensor made of them would be copied to a GPU in every step.
    if method == "max_ent":
        parts = [weight / size.clamp_min(least) for weight, size in zip(weights, sizes, strict=True)]
    else:
        parts = [weight * size for weight, size in zip(weights, sizes, strict=True)]
    total = torch.linalg.vector_norm(torch.stack(parts), norm)
    if method == "max_ent":
        return total
    return total if method == "min_ent" else CEILING * sum(weights) - total
