"""Optimisers by name, in their fastest implementation for the device."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": lambda parameters, **options: SGD(parameters, momentum=0.9, **options),
}


def make_optimiser(
    name: str, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float, beta2: float = 0.999
) -> Optimizer:
    """A fused optimiser over the parameters that require gradients.

    `adam` adds weight_decay * weight to the gradient (L2), as the papers' code does; `adamw` decays the weights
    themselves; `sgd` has momentum 0.9.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    options = {} if name == "sgd" else {"betas": (0.9, beta2)}
    return OPTIMISERS[name](trained, lr=learning_rate, weight_decay=weight_decay, fused=_can_fuse(trained), **options)


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in parameters)
