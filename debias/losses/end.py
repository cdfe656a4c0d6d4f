"""EnD: features of one bias are pulled apart, those of one target and different biases together (CVPR 2021).

Both terms are means over pairs of images of a batch. With d_i the features of image i scaled to length 1, y_i its
target and b_i its bias:

    R_perp = 1 / P * sum over biases b of | sum of d_i . d_j over the pairs with b_i = b_j = b |
    R_par  = 1 - 1 / Q * sum of (1 + d_i . d_j) / 2 over the pairs with y_i = y_j and b_i != b_j

P and Q are the numbers of these pairs; a term without a pair is 0 and has no gradient. The absolute value stands
outside the sum over a bias's pairs, so that cosines of different signs cancel within a bias, as published.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from debias.errors import UserError
from debias.losses.unit import unit_rows

Pairs = Literal["all", "half"]


def entangle_disentangle(
    features: Tensor, target: Tensor, bias: Tensor, n_targets: int, n_biases: int, pairs: Pairs = "all"
) -> tuple[Tensor, Tensor]:
    """R_perp (disentangle) and R_par (entangle) of a batch, in O(batch x groups x features) and without a sync.

    A sum over all pairs of a set is (||sum of its vectors||^2 - sum of their squared lengths) / 2, so sums over the
    groups of equal target and bias give every term.

    Parameters
    ----------
    features : float [B, D]
        Of any length; zeros have no direction and count as orthogonal to everything.
    target, bias : int64 [B]
        In 0..n_targets - 1 and 0..n_biases - 1.
    pairs : {"all", "half"}
        Which pairs R_par takes. The published code uses those in which the image of the larger bias number comes
        first in the batch, about half of them: "half" repeats that, in O(batch^2).

    Returns
    -------
    Float scalars, in [0, 1] each.
    """
    if pairs not in get_args(Pairs):
        raise UserError(f"EnD: pairs is {pairs!r}; set it to one of {', '.join(get_args(Pairs))}")
    unit = unit_rows(features)
    squared = unit.square().sum(dim=1, keepdim=True)
    # Sums by a matrix product, as an indexed addition is not deterministic on a GPU.
    groups = torch.arange(n_targets * n_biases, device=target.device).unsqueeze(1)
    member = (groups == target * n_biases + bias).to(unit.dtype)
    columns = torch.cat([unit, squared, torch.ones_like(squared)], dim=1)
    sums = (member @ columns).view(n_targets, n_biases, -1)

    of_bias = _pairs(sums.sum(dim=0))
    perpendicular = of_bias[0].abs().sum() / of_bias[1].sum().clamp_min(1)

    if pairs == "half":
        chosen = (target.unsqueeze(1) == target) & (bias.unsqueeze(1) < bias)
        chosen = chosen.tril(diagonal=-1).to(unit.dtype)
        cosines, number = (chosen * (unit @ unit.T)).sum(), chosen.sum()
    else:
        of_target, of_group = _pairs(sums.sum(dim=1)), _pairs(sums)
        cosines, number = (of_target[place].sum() - of_group[place].sum() for place in (0, 1))
    found = (number > 0).to(unit.dtype)
    parallel = found - found * (number + cosines) / (2 * number.clamp_min(1))
    return perpendicular, parallel


def _pairs(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of cosines over the pairs of each set, and the number of its pairs, from [..., D + 2] sums of its images."""
    vector, squared, count = sums[..., :-2], sums[..., -2], sums[..., -1]
    return (vector.square().sum(dim=-1) - squared) / 2, count * (count - 1) / 2
