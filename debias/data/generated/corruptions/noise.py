"""Noise, drawn for each value of each channel on its own (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019)."""

import torch
from torch import Generator, Tensor

from debias.data.generated.corruptions.pixels import on_floats

GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation
SHOT = (500, 250, 100, 75, 50)  # photons at full brightness
IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of values that are replaced
SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)  # standard deviation at full brightness


@on_floats
def gaussian_noise(images: Tensor, level: int, generator: Generator) -> Tensor:
    """x + sigma * N(0, 1)."""
    return torch.randn(images.shape, generator=generator).mul_(GAUSSIAN[level - 1]).add_(images)


@on_floats
def shot_noise(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Poisson(rate * x) / rate."""
    rate = SHOT[level - 1]
    return torch.poisson(images * rate, generator=generator).div_(rate)


@on_floats
def speckle_noise(images: Tensor, level: int, generator: Generator) -> Tensor:
    """x + x * sigma * N(0, 1)."""
    return torch.randn(images.shape, generator=generator).mul_(SPECKLE[level - 1]).add_(1).mul_(images)


def impulse_noise(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Salt and pepper: a share of the values becomes 0 or 255, one as often as the other."""
    draw = torch.rand(images.shape, generator=generator)
    amount = IMPULSE[level - 1]
    noisy = torch.where(draw < amount, 255, images)
    return torch.where(draw < amount / 2, 0, noisy)
