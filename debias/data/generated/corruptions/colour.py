"""Brightness, contrast and saturation (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019).

A change of value or saturation in HSV keeps the hue: it is a scaling of each pixel's channels, without a way to HSV
and back.
"""

import torch
from torch import Generator, Tensor

from debias.data.generated.corruptions.pixels import on_floats

BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # factor
SATURATE = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))  # factor on the saturation, and what is added


@on_floats
def brightness(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Value (the largest channel) + c, at most 1; black becomes grey."""
    value = images.amax(1, keepdim=True)
    brighter = (value + BRIGHTNESS[level - 1]).clamp_(max=1)
    return torch.where(value > 0, images / value * brighter, brighter)


@on_floats
def contrast(images: Tensor, level: int, generator: Generator) -> Tensor:
    """(x - mean) * c + mean, with the mean of each channel of each image."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean).mul_(CONTRAST[level - 1]).add_(mean)


@on_floats
def saturate(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Saturation * a + b, at most 1. Grey pixels count as red, so that they turn reddish where b > 0."""
    factor, added = SATURATE[level - 1]
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = value - lowest
    saturation = torch.where(value > 0, spread / value, 0)
    # How far each channel lies below the value, as a share of the farthest: what the hue is.
    red = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1)
    below = torch.where(spread > 0, (value - images) / spread, red)
    wanted = (saturation * factor + added).clamp_(0, 1)
    return value * (1 - wanted * below)
