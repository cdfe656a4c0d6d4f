"""From bytes to floats and back, and a bar of what all corruptions are: functions of a batch."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Generator, Tensor

Corruption = Callable[[Tensor, int, Generator], Tensor]
"""(uint8 images [N, 3, 32, 32], level 1..5, CPU generator) -> corrupted uint8 images; the input is left alone."""

# Grey levels are cut off, not rounded, as the released generators do; half a level is visible in the mean. What is a
# whole level but for rounding errors of float32 must stay that level.
_SLACK = 1e-3


def to_floats(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def to_bytes(images: Tensor) -> Tensor:
    """float in [0, 1], cut off at both ends -> uint8, cut off to whole levels. Overwrites `images`."""
    return images.mul_(255).add_(_SLACK).clamp_(0, 255).to(torch.uint8)


def on_floats(corruption: Corruption) -> Corruption:
    """A corruption of floats in [0, 1] as one of bytes."""

    @wraps(corruption)
    def of_bytes(images: Tensor, level: int, generator: Generator) -> Tensor:
        return to_bytes(corruption(to_floats(images), level, generator))

    return of_bytes
