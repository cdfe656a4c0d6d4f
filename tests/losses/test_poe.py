import math

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from debias.errors import UserError
from debias.losses.poe import distillation


def test_value_by_hand() -> None:
    # Logits 2 log 3 at temperature 2: probabilities 3/4, 1/4. A flat student has log(1/2) for both.
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    assert distillation(torch.zeros(1, 2), teacher, 2.0).item() == pytest.approx(4 * math.log(2))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert distillation(teacher, teacher, 2.0).item() == pytest.approx(4 * entropy)


def test_is_kl_divergence_plus_entropy_of_the_teacher() -> None:
    student, teacher = torch.randn(2, 16, 10).unbind(0)
    p = softmax(teacher / 3, dim=1)
    kl = kl_div(log_softmax(student / 3, dim=1), p, reduction="batchmean")
    entropy = -(p * p.log()).sum(dim=1).mean()
    torch.testing.assert_close(distillation(student, teacher, 3.0), 9 * (kl + entropy))


def test_no_gradient_at_the_teacher_and_the_caller_decides_about_detaching() -> None:
    teacher = torch.randn(8, 5, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    distillation(student, teacher).backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-6
    assert teacher.grad is not None and teacher.grad.abs().max() > 1e-4


def test_temperature_must_be_positive() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        distillation(torch.zeros(1, 2), torch.zeros(1, 2), 0)
