"""Elastic deformation and pixelation (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019)."""

from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from debias.data.generated.corruptions.filters import along_both, gaussian_matrix
from debias.data.generated.corruptions.pixels import on_floats

# Largest displacement, standard deviation of its smoothing, largest jitter of the affine map's points; pixels.
ELASTIC = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # share of the side that is left


@on_floats
def elastic(images: Tensor, level: int, generator: Generator) -> Tensor:
    """A random affine map, then smooth random displacements; bilinear, mirrored at the border."""
    alpha, sigma, jitter = ELASTIC[level - 1]
    n, side = len(images), images.shape[-1]
    centre, arm = side // 2, side // 3
    corners = torch.tensor([[arm, arm], [arm, -arm], [-arm, -arm]]) + float(centre)
    moved = corners + (torch.rand(n, 3, 2, generator=generator) * 2 - 1) * jitter
    back = torch.linalg.solve(torch.cat([moved, torch.ones(n, 3, 1)], 2), corners.expand(n, 3, 2))
    axis = torch.arange(side, dtype=torch.float32)
    # (x, y) of every pixel, [side, side, 2]
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2)
    homogeneous = torch.cat([pixels, torch.ones(side, side, 1)], 2).view(1, -1, 3)
    places = (homogeneous @ back).view(n, side, side, 2)
    # Mirrored about edge pixels, as there.
    warped = grid_sample(images, places / (side - 1) * 2 - 1, padding_mode="reflection", align_corners=True)
    if alpha == 0:
        return warped
    smooth = gaussian_matrix(side, sigma, truncate=3.0, border="reflect")
    noise = torch.rand(n, 2, side, side, generator=generator) * 2 - 1
    places = pixels + along_both(noise, smooth).mul(alpha).permute(0, 2, 3, 1)
    # Mirrored about the outer side of edge pixels, as there.
    return grid_sample(warped, (2 * places + 1) / side - 1, padding_mode="reflection", align_corners=False)


def pixelate(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Shrink to a share of the side and enlarge again, with box filters."""
    side = images.shape[-1]
    small = int(side * PIXELATE[level - 1])
    shown = images.float()
    for matrix in (box_matrix(side, small), box_matrix(small, side)):
        # Between the axes, too, whole levels.
        shown = (shown @ matrix.t()).add_(0.5).floor_()
        shown = (shown.transpose(2, 3) @ matrix.t()).add_(0.5).floor_().transpose(2, 3)
    return shown.to(torch.uint8)


@lru_cache(maxsize=32)
def box_matrix(before: int, after: int) -> Tensor:
    """Resizing of one axis, float [after, before]: the mean of the pixels whose centres lie in a pixel's box.

    Boxes are never smaller than a pixel, so that enlarging takes the nearest one. Pillow's BOX filter.
    """
    scale = before / after
    half = max(scale, 1.0) / 2
    centre = (np.arange(after)[:, None] + 0.5) * scale
    distance = np.arange(before) + 0.5 - centre
    inside = ((distance > -half) & (distance <= half)).astype(float)
    return torch.from_numpy(inside / inside.sum(1, keepdims=True)).float()
