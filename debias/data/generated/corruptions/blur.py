"""Blurs (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019)."""

import math
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from debias.data.generated.corruptions.filters import along_both, gaussian_matrix, motion, streak_kernel, zoom_matrix
from debias.data.generated.corruptions.pixels import on_floats, to_bytes, to_floats

GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation, pixels
DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))  # radius of the disk, its own blur
GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # standard deviation, rounds
MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))  # radius, standard deviation
NEGLIGIBLE = 1e-7
# Enlargements 1, 1.01, ... The last one is part of the first two levels: the released generator's steps come from
# floats whose rounding lets it in there and leaves it out elsewhere.
ZOOM = (7, 12, 16, 21, 26)


@on_floats
def gaussian_blur(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Gaussian smoothing; edge pixels are repeated."""
    return along_both(images, gaussian_matrix(images.shape[-1], GAUSSIAN[level - 1]))


@on_floats
def defocus_blur(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Mean over a disk whose edge is softened; mirrored about edge pixels."""
    kernel = disk(*DEFOCUS[level - 1])
    reach = len(kernel) // 2
    padded = pad(images, (reach,) * 4, mode="reflect")
    height, width = images.shape[2:]
    blurred = torch.zeros_like(images)
    # A few shifted additions; a convolution of one channel takes forty times as long on a CPU.
    for row, weights in enumerate(kernel.tolist()):
        for column, weight in enumerate(weights):
            if weight > NEGLIGIBLE:
                blurred.add_(padded[:, :, row : row + height, column : column + width], alpha=weight)
    return blurred


@lru_cache(maxsize=8)
def disk(radius: float, soft: float) -> Tensor:
    """Uniform disk, then a 3 x 3 Gaussian of standard deviation `soft`; float [K, K], sum 1."""
    reach = math.floor(radius) + 1
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    inside = ((axis[:, None] ** 2 + axis**2) <= radius**2).double()
    edge = torch.exp(-0.5 * (torch.arange(-1, 2).double() / soft) ** 2)
    edge /= edge.sum()
    return conv2d((inside / inside.sum())[None, None], (edge[:, None] * edge)[None, None], padding=1)[0, 0].float()


def glass_blur(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Smooth, let every pixel show itself or a neighbour to the left or above, in one or two rounds, smooth again.

    The papers speak of swaps. The released generator exchanges views of one array, which copies in one direction; its
    order of pixels is such that nothing copied is ever copied on in the same round.
    """
    sigma, rounds = GLASS[level - 1]
    n, channels, height, width = images.shape
    smooth = gaussian_matrix(width, sigma)
    shown = to_bytes(along_both(to_floats(images), smooth))
    line = torch.arange(height)[:, None].expand(height, width)
    column = torch.arange(width).expand(height, width)
    # The two uppermost rows and leftmost columns show themselves.
    moved = ((line >= 2) & (column >= 2)).long()
    for _ in range(rounds):
        step = torch.randint(0, 2, (2, n, height, width), generator=generator) * moved
        source = ((line - step[0]) * width + column - step[1]).view(n, 1, -1)
        shown = shown.flatten(2).gather(2, source.expand(n, channels, -1)).view(images.shape)
    return to_bytes(along_both(to_floats(shown), smooth))


@on_floats
def motion_blur(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Half-Gaussian streak at an angle of U(-45, 45) degrees to the rows."""
    degrees = torch.rand(len(images), generator=generator) * 90 - 45
    return motion(images, streak_kernel(*MOTION[level - 1]), degrees)


@on_floats
def zoom_blur(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Mean of the image and its enlargements by 1, 1.01, ..."""
    operator = _zooms(images.shape[-1], ZOOM[level - 1])
    return (images.flatten(2) @ operator).view(images.shape)


@lru_cache(maxsize=8)
def _zooms(side: int, count: int) -> Tensor:
    """The mean as one matrix on flattened images, to be multiplied from the right."""
    total = torch.eye(side * side)
    for step in range(count):
        axis = zoom_matrix(side, 1 + step / 100)
        total += torch.kron(axis, axis).t()
    return total / (count + 1)
