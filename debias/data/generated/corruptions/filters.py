"""Linear filters of small square images: each is a matrix, so that borders are exact and a batch is one product."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=64)
def gaussian_matrix(side: int, sigma: float, truncate: float = 4.0, border: str = "nearest") -> Tensor:
    """Gaussian smoothing of one axis, float [side, side]; the kernel ends at round(truncate * sigma).

    border : "nearest" repeats the pixel at the edge, "reflect" mirrors about the edge of it (cba|abc|cba)
    """
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if reach else np.ones(1)
    source = np.arange(side)[:, None] + offsets
    if border == "nearest":
        source = source.clip(0, side - 1)
    else:
        source = source % (2 * side)
        source = np.minimum(source, 2 * side - 1 - source)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], source), weights / weights.sum())
    return torch.from_numpy(matrix).float()


@lru_cache(maxsize=64)
def zoom_matrix(side: int, factor: float) -> Tensor:
    """Enlargement of the middle by `factor` >= 1 to the old size, of one axis, float [side, side], bilinear."""
    inner = math.ceil(side / factor)
    outer = math.floor(inner * factor + 0.5)
    first, trim = (side - inner) // 2, (outer - side) // 2
    # First and last pixel of the part lie on the first and last of the result.
    place = (np.arange(side) + trim) * (inner - 1) / (outer - 1)
    below = np.minimum(place.astype(int), inner - 2)
    matrix = np.zeros((side, side))
    rows = np.arange(side)
    matrix[rows, first + below] = 1 - (place - below)
    matrix[rows, first + below + 1] = place - below
    return torch.from_numpy(matrix).float()


def along_both(images: Tensor, rows: Tensor, columns: Tensor | None = None) -> Tensor:
    """rows @ image @ columns.T of images [..., H, W]; `columns` None: the same matrix for both axes."""
    columns = rows if columns is None else columns
    down = images.transpose(-1, -2).contiguous() @ rows.t()
    return down.transpose(-1, -2).contiguous() @ columns.t()


def streak_kernel(radius: int, sigma: float) -> Tensor:
    """Weights of a motion blur: half a Gaussian that begins at the pixel itself, float [2 * radius + 1], sum 1."""
    steps = torch.arange(2 * radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    return (weights / weights.sum()).float()


def motion(images: Tensor, kernel: Tensor, degrees: Tensor) -> Tensor:
    """Blur each image along a direction of its own, one pixel a step, rounded to whole pixels; edges are repeated.

    images : float [N, C, H, W]; kernel : float [K]; degrees : float [N], 0 along the rows to the right
    """
    n, channels, height, width = images.shape
    reach = len(kernel) - 1
    steps = torch.arange(len(kernel), dtype=torch.float64)
    radians = torch.deg2rad(degrees.double())[:, None]
    down = torch.ceil(steps * torch.sin(radians) - 0.5).long()
    right = torch.ceil(steps * torch.cos(radians) - 0.5).long()
    padded = torch.nn.functional.pad(images, (reach, reach, 0, 0), mode="replicate")
    wide = width + 2 * reach
    # Rows of an overlapping view: what a step sees of a row is then one copy of `width` values.
    runs = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    plane = (torch.arange(n * channels) * (height * wide)).view(n, channels, 1)
    blurred = torch.zeros_like(images)
    for step, weight in enumerate(kernel.tolist()):
        line = (torch.arange(height) + down[:, step, None]).clamp_(0, height - 1) * wide
        first = plane + (line + right[:, step, None] + reach)[:, None]
        blurred.view(-1, width).add_(runs.index_select(0, first.flatten()), alpha=weight)
    return blurred
