"""Operators on places: a border, the cells of a grid, what is around the middle, and the shape of what is shown."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

CELLS = 3  # of the grid, along a side
_LEAST = 1e-4
_MOST = 2.0  # by how much a side may be stretched


def border(x: Tensor, z: Tensor) -> Tensor:
    """x in the outermost tenth of z on every side."""
    return torch.where(inner(x), x, z)


def inner(x: Tensor) -> Tensor:
    """What lies within the border of images [B, C, H, W]; bool [H, W]."""
    height, width = x.shape[2:]
    wide = max(1, round(min(height, width) / 10))
    inside = torch.zeros(height, width, dtype=torch.bool, device=x.device)
    inside[wide : height - wide, wide : width - wide] = True
    return inside


def outer(x: Tensor) -> Tensor:
    """Where the border of images [B, C, H, W] is; bool [H, W]."""
    return ~inner(x)


def background(x: Tensor, z: Tensor) -> Tensor:
    """What lies within the ellipse about the middle from x, what lies around it from z."""
    return torch.where(around(x), z, x)


def around(x: Tensor) -> Tensor:
    """What lies around the ellipse about the middle of images [B, C, H, W]; bool [H, W]."""
    down, across = (torch.linspace(-1, 1, side, device=x.device) for side in x.shape[2:])
    return (down[:, None] / 0.75) ** 2 + (across[None] / 0.75) ** 2 > 1


def cell(x: Tensor, z: Tensor, row: int, column: int) -> Tensor:
    """x with one cell of a grid of three by three from z."""
    down, across = cell_at(x, row, column)
    done = x.clone()
    done[..., down, across] = z[..., down, across]
    return done


def cell_at(x: Tensor, row: int, column: int) -> tuple[slice, slice]:
    """Where a cell of the grid lies in images [B, C, H, W]: rows and columns of pixels."""
    height, width = x.shape[2:]
    down, across = (slice(i * side // CELLS, (i + 1) * side // CELLS) for i, side in ((row, height), (column, width)))
    return down, across


def within_cell(x: Tensor, row: int, column: int) -> Tensor:
    """Where a cell of the grid is in images [B, C, H, W]; bool [H, W]."""
    inside = torch.zeros(x.shape[2:], dtype=torch.bool, device=x.device)
    inside[cell_at(x, row, column)] = True
    return inside


def size(x: Tensor, z: Tensor) -> Tensor:
    """x enlarged or shrunk about the middle until its edges spread as far as those of z."""
    factor = ((_spread(z) + _LEAST) / (_spread(x) + _LEAST)).clamp(1 / _MOST, _MOST)
    return _stretched(x, factor, factor)


def aspect(x: Tensor, z: Tensor) -> Tensor:
    """x stretched across and squeezed down, or the other way, until changes in both directions are as steep as in z."""
    factor = (_steepness(x) / _steepness(z)).sqrt().clamp(1 / _MOST, _MOST)
    return _stretched(x, factor, 1 / factor)


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours down [B, H - 1, W] and across [B, H, W - 1], all channels together."""
    return x.diff(dim=2).abs().sum(1), x.diff(dim=3).abs().sum(1)


def _steepness(x: Tensor) -> Tensor:
    """Changes across as a share of those down; [B]. Not squared: a sharp edge is as steep however it is stretched."""
    down, across = (edges.mean((1, 2)) for edges in _edges(x))
    return (across + _LEAST) / (down + _LEAST)


def _spread(x: Tensor) -> Tensor:
    """Root mean square distance of edges from the middle, as a share of half a side; [B]."""
    edges = _edges(x)
    energy = edges[0][:, :, :-1] + edges[1][:, :-1, :] + _LEAST**2
    down, across = (torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype) for side in energy.shape[1:])
    return ((energy * (down[:, None] ** 2 + across[None] ** 2)).sum((1, 2)) / energy.sum((1, 2))).sqrt()


def _stretched(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """x stretched about its middle by factors [B] across and down; what comes in from outside repeats the border."""
    theta = torch.zeros(len(x), 2, 3, device=x.device, dtype=x.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / across, 1 / down
    grid = affine_grid(theta, list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp(0, 1)
