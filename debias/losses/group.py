"""Group distributionally robust optimisation (Sagawa et al., ICLR 2020, algorithm 1). Needs bias labels."""

import torch
from torch import Tensor


def group_losses(per_sample_loss: Tensor, group: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Mean loss and number of samples of each group in a batch.

    Parameters
    ----------
    per_sample_loss : float [B]
    group : int64 [B]
        Number of the target x bias cell.

    Returns
    -------
    float [n_groups] (0 for a group that is absent), float [n_groups].
    """
    # By a matrix product: an indexed addition is not deterministic on a GPU.
    groups = torch.arange(n_groups, device=group.device).unsqueeze(1)
    member = (groups == group).to(per_sample_loss.dtype)
    counts = member.sum(dim=1)
    return (member @ per_sample_loss) / counts.clamp_min(1), counts


def group_dro(q: Tensor, losses: Tensor, counts: Tensor, eta: float = 0.01) -> tuple[Tensor, Tensor]:
    """One step of the group weights, q_g <- q_g * exp(eta * loss_g), normalised, and the loss under the new ones.

    Parameters
    ----------
    q : float [n_groups]
        Weights that sum to 1; start from equal ones.
    losses, counts : float [n_groups]
        From `group_losses`. Groups with count 0 are not multiplied, so the ratios among them stay.
    eta : float
        Step size of the weights.

    Returns
    -------
    float scalar sum_g q_g * loss_g, differentiable in `losses`; float [n_groups] the new weights, without gradient.
    """
    present = (counts > 0).to(losses.dtype)
    # exp(eta * loss) overflows for losses near 1e4; a softmax of the logarithms does not.
    new_q = (q.detach().log() + eta * present * losses.detach()).softmax(dim=0)
    return (new_q * losses).sum(), new_q
