"""Random augmentations of a whole batch at once; every draw comes from the generator passed in."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def crop_flip(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Pad by 4 black pixels, crop back to size at a random place, mirror left-right with probability 1/2.

    images : float [B, C, H, W] before normalisation (black is 0); returns the same shape.
    Draws, in this order: vertical and horizontal offset (int [2, B] in 0..8), mirrored or not ([B]).
    """
    batch, channels, height, width = images.shape
    device = images.device
    offset = torch.randint(0, 2 * PADDING + 1, (2, batch), generator=generator, device=device)
    mirrored = torch.rand(batch, generator=generator, device=device) < 0.5

    padded = F.pad(images, (PADDING,) * 4)
    high, wide = padded.shape[2:]
    # Every run of `width` neighbouring pixels as one row of an overlapping view: a crop is then `height` row copies.
    runs = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    plane = torch.arange(batch * channels, device=device).view(batch, channels, 1) * (high * wide)
    line = (torch.arange(height, device=device) + offset[0].view(batch, 1, 1)) * wide
    first = (plane + line + offset[1].view(batch, 1, 1)).flatten()
    crops = runs.index_select(0, first).view(images.shape)
    return torch.where(mirrored.view(batch, 1, 1, 1), crops.flip(3), crops)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {"crop_flip": crop_flip}
