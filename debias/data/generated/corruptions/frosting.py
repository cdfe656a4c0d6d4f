"""Frosted panes: made by rule, or read from a folder of photographs.

The photographs of the released generator are not ours to hand on. In five panes feathers of ice grow from random points
over a cloudy, bluish ground; brightness and contrast are those that its statistics imply for the photographs.
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from debias.data.generated.corruptions.filters import motion
from debias.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
SCALE = 0.2

PANES, SIDE = 5, 160
MEAN, STD = 0.61, 0.18
TINT = (0.97, 1.0, 1.03)


def photographs(folder: Path, side: int = 32) -> list[Tensor]:
    """All photographs of a folder at a fifth of their size, uint8 [3, H, W] each, in the order of their names.

    Raises
    ------
    UserError
        No such folder, no image in it, one that cannot be read, or one too small for pieces of `side` pixels.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        what = "holds no image" if folder.is_dir() else "is not a folder"
        raise UserError(f"frost_dir={folder} {what}: give a folder of {', '.join(SUFFIXES)} files, or none")
    panes = []
    for path in files:
        try:
            with Image.open(path) as opened:
                pane = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"frost_dir: {path} cannot be read as an image: fix or remove it") from error
        height, width = (round(edge * SCALE) for edge in pane.shape[1:])
        if min(height, width) <= side:
            raise UserError(
                f"frost_dir: {path} is {pane.shape[2]} x {pane.shape[1]}; at least {math.ceil((side + 1) / SCALE)} are "
                "needed each way"
            )
        small = interpolate(pane[None].float(), (height, width), mode="bilinear", align_corners=False)
        panes.append(small[0].round_().to(torch.uint8))
    return panes


@lru_cache(maxsize=1)
def textures() -> Tensor:
    """uint8 [5, 3, 160, 160], always the same ones."""
    generator = Generator().manual_seed(1000)
    ground = _clouds((5, 10, 20), generator)
    # Needles: thin streaks in a few directions, thicker where the ground is icy.
    needles = torch.zeros(PANES, 1, SIDE, SIDE)
    kernel = torch.full((9,), 1 / 9)
    for turn in range(6):
        spots = (torch.rand(PANES, 1, SIDE, SIDE, generator=generator) ** 8).mul_(2)
        degrees = torch.rand(PANES, generator=generator) * 60 + 60 * turn
        needles = torch.maximum(needles, motion(spots, kernel, degrees))
    grain = torch.randn(PANES, 1, SIDE, SIDE, generator=generator)
    ice = _standard(ground) + _standard(needles) * 0.5 + grain * 0.1
    grey = MEAN + STD * _standard(ice)
    return (grey * torch.tensor(TINT).view(3, 1, 1)).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _clouds(sizes: tuple[int, ...], generator: Generator) -> Tensor:
    """Smooth noise of several scales, the finer the weaker."""
    total = torch.zeros(PANES, 1, SIDE, SIDE)
    for number, size in enumerate(sizes):
        coarse = torch.randn(PANES, 1, size, size, generator=generator)
        total += interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False) / math.sqrt(2) ** number
    return total


def _standard(panes: Tensor) -> Tensor:
    return (panes - panes.mean()) / panes.std()
