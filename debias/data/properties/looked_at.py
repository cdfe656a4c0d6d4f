"""Images as they are looked at: small enough for seconds to do."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MOST_PIXELS = 64  # along a side
_BLOCK = 512


def reduced(images: Tensor) -> Tensor:
    """uint8 images [N, C, H, W], averaged down by the smallest factor that brings both sides to at most 64 pixels."""
    height, width = images.shape[2:]
    if max(height, width) <= MOST_PIXELS:
        return images
    factor = MOST_PIXELS / max(height, width)
    size = [max(1, round(height * factor)), max(1, round(width * factor))]
    parts = [interpolate(part.float(), size=size, mode="area") for part in images.split(_BLOCK)]
    return torch.cat([part.round().to(torch.uint8) for part in parts])


def is_grey(images: Tensor) -> bool:
    """Whether no image has a colour; uint8 [N, C, H, W]."""
    if images.shape[1] == 1:
        return True
    # Saving as JPEG makes a difference of one or two.
    return int((images.amax(1).int() - images.amin(1).int()).max()) <= 4
