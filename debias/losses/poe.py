"""Product of experts: the soft targets of DeNetDM's second stage (NeurIPS 2024, arXiv 2403.19863)."""

from torch import Tensor
from torch.nn.functional import log_softmax

from debias.errors import UserError


def distillation(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Cross-entropy of the softened student under the softened teacher, times temperature squared (L_dist).

    Parameters
    ----------
    student_logits, teacher_logits : float [B, C]
        Detach the teacher's before the call when it is to stay as it is.
    temperature : float
        Above 0; both distributions are softened by it. The square keeps the gradient's size independent of it.

    Returns
    -------
    float scalar, in nats: the mean over B.
    """
    if temperature <= 0:
        raise UserError(f"distillation: the temperature is {temperature}; set it above 0 (the paper takes 2)")
    teacher = log_softmax(teacher_logits / temperature, dim=1).exp()
    student = log_softmax(student_logits / temperature, dim=1)
    return -(teacher * student).sum(dim=1).mean() * temperature**2
