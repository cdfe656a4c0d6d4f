"""What holds for every loss: finite at extreme inputs, a correct gradient, and no wait for the device."""

import pytest
import torch
from torch import Tensor

from debias.losses.contrastive import supervised_contrastive
from debias.losses.disentangle import disentangling
from debias.losses.end import entangle_disentangle
from debias.losses.gce import confident_cross_entropy, gce, gce_lff
from debias.losses.group import group_dro, group_losses
from debias.losses.hsic import dependence
from debias.losses.logit_correction import class_means, corrected_cross_entropy, minority_partners, moved_prior
from debias.losses.poe import distillation
from debias.losses.reweight import bias_balanced, class_members, class_normalised, ema_update_, relative_difficulty
from debias.losses.selective_mixing import contradicting_partners, generalised_contrastive
from debias.losses.unit import unit_rows

TARGET = [0, 1, 2, 0, 1, 2]
BIAS = [0, 1, 2, 1, 1, 0]
MEMBERS = class_members(torch.tensor(TARGET), 3)


def group_robust(x: Tensor, target: Tensor, bias: Tensor) -> Tensor:
    per_sample = torch.nn.functional.cross_entropy(x, target, reduction="none")
    losses, counts = group_losses(per_sample, target * 3 + bias, 9)
    return group_dro(torch.full((9,), 1 / 9, dtype=x.dtype, device=x.device), losses, counts)[0]


def learning_from_failure(x: Tensor, target: Tensor, bias: Tensor) -> Tensor:
    ce = torch.nn.functional.cross_entropy(x, target, reduction="none")
    index = torch.arange(len(target), device=x.device)
    average = ema_update_(torch.full_like(ce, -1.0).detach(), index, ce)
    known = class_normalised(average, index, target, MEMBERS.to(x.device))
    return (relative_difficulty(known, ce) * ce).mean()


def logit_correction(x: Tensor, target: Tensor, bias: Tensor) -> Tensor:
    prior = torch.full((3, 3), 1 / 3, dtype=x.dtype, device=x.device)
    said = torch.nn.functional.one_hot(bias, 3).to(x.dtype)
    share = moved_prior(prior, *class_means(said, target), 0.5).t()[bias]
    draws = torch.linspace(0, 0.9, 36, device=x.device).view(6, 6)
    return corrected_cross_entropy(x, target, share + share[minority_partners(target, bias != target, draws)] / 2)


def selective_mixing(x: Tensor, target: Tensor, bias: Tensor, q: float) -> Tensor:
    features = unit_rows(x)
    cosines = features @ features.T
    partner = contradicting_partners(cosines.detach(), target, target[0] == bias[0])
    return generalised_contrastive(cosines, target, 0.2, q) + torch.nn.functional.cross_entropy(x, target[partner])


LOSSES = {
    "distillation": lambda x, y, b: distillation(x, x.detach().flip(0), 2.0),
    "gce": lambda x, y, b: gce(x, y),
    "gce_lff": lambda x, y, b: gce_lff(x, y),
    "confident": lambda x, y, b: confident_cross_entropy(x, y, 0.05),
    "contrastive_column": lambda x, y, b: supervised_contrastive(x, y, y != b, "column"),
    "contrastive_either": lambda x, y, b: supervised_contrastive(x, y, y != b, "either"),
    "bias_balanced": lambda x, y, b: bias_balanced(x, y, b, torch.full((3, 3), -1.1, dtype=x.dtype, device=x.device)),
    "end_all": lambda x, y, b: sum(entangle_disentangle(x, y, b, 3, 3), x.new_zeros(())),
    "end_half": lambda x, y, b: sum(entangle_disentangle(x, y, b, 3, 3, "half"), x.new_zeros(())),
    "group_dro": group_robust,
    "lff": learning_from_failure,
    "logit_correction": logit_correction,
    "selecmix": lambda x, y, b: selective_mixing(x, y, b, 0.7),
    "selecmix, unweighted": lambda x, y, b: selective_mixing(x, y, b, 0.0),
    "hsic": lambda x, y, b: dependence(x, torch.nn.functional.one_hot(b, 3).to(x.dtype)),
    "disentangling": lambda x, y, b: disentangling(x, x + 1, y, b, torch.full_like(x[:, 0], 0.3), 2.0, 0.7),
}
WITHOUT_DETACHED_FACTOR = [
    "distillation",
    "gce",
    "confident",
    "contrastive_column",
    "contrastive_either",
    "bias_balanced",
    "end_all",
    "end_half",
    "logit_correction",
    "selecmix, unweighted",
    "hsic",
]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_value_and_gradient_are_finite_however_sure_the_network_is(name: str, size: float) -> None:
    target, bias = torch.tensor(TARGET), torch.tensor(BIAS)
    torch.manual_seed(0)
    right = torch.nn.functional.one_hot(target, 3).float()
    for x in (size * right, -size * right, torch.zeros(6, 3), size * torch.randn(6, 3)):
        x.requires_grad_()
        loss = LOSSES[name](x, target, bias)
        assert loss.shape == () and loss.dtype == torch.float32
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 100


@pytest.mark.parametrize("name", WITHOUT_DETACHED_FACTOR)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    target, bias = torch.tensor(TARGET), torch.tensor(BIAS)
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    teacher = x.clone()
    loss = LOSSES[name] if name != "distillation" else lambda x, y, b: distillation(x, teacher, 2.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, bias), x.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_no_value_is_asked_of_the_device(name: str) -> None:
    # A meta tensor has no values, so .item(), nonzero and indexing by a bool mask all raise.
    target, bias = torch.tensor(TARGET, device="meta"), torch.tensor(BIAS, device="meta")
    x = torch.empty(6, 3, device="meta", requires_grad=True)
    LOSSES[name](x, target, bias).backward()
    assert x.grad is not None
