"""Optimisers by name, in their fastest implementation for the device."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
}


def make_optimiser(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    beta2: float = 0.999,
    momentum: float = 0.9,
) -> Optimizer:
    """A fused optimiser over the parameters that require gradients.

    `adam` adds weight_decay * weight to the gradient (L2), as the papers' code does; `adamw` decays the weights
    themselves. `beta2` is for these two, `momentum` for `sgd`.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    options: dict[str, Any] = {"momentum": momentum} if name == "sgd" else {"betas": (0.9, beta2)}
    made = OPTIMISERS[name](trained, lr=learning_rate, weight_decay=weight_decay, fused=_can_fuse(trained), **options)
    if name == "sgd" and momentum:
        # The fused step takes weights with a velocity or weights without, not both: where some have no gradient in the
        # first step, as with two updates of different parts, the next one would fail. Zero is where they start anyway.
        for parameter in trained:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in parameters)
