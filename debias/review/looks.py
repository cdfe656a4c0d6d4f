"""Images as a browser shows them: encoded when they are asked for, and the last ones kept."""

from __future__ import annotations

import functools
import io
import threading

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from debias.data.mapped import MappedImages

THUMBNAIL = 160
# Thumbnails that are kept: some pages of them, and about 10 kB each.
_KEPT = 4000


class Looks:
    """Images by their position, as JPEG, or as PNG where they are so small that their pixels are to be seen.

    images : uint8 [N, C, H, W], of 1 or 3 channels, other numbers being shown by their first
    """

    def __init__(self, images: Tensor | MappedImages) -> None:
        self._images = images
        self._read = threading.Lock()
        self.thumbnail = functools.lru_cache(_KEPT)(self._thumbnail)

    @property
    def side(self) -> int:
        """Height of the images, in pixels."""
        return int(self._images.shape[2])

    def _thumbnail(self, place: int) -> tuple[bytes, str]:
        """The bytes and their type of a small version."""
        return self.whole(place, THUMBNAIL)

    def whole(self, place: int, most: int = 1024) -> tuple[bytes, str]:
        """The bytes of an image and their type; its longer side has at most so many pixels."""
        with self._read:
            pixels = self._images[torch.tensor([place])][0].cpu().numpy()
        channels = pixels if pixels.shape[0] == 3 else pixels[:1]
        image = Image.fromarray(np.ascontiguousarray(channels.transpose(1, 2, 0)).squeeze())
        small = max(image.size) <= 64
        image.thumbnail((most, most), Image.Resampling.BOX)
        buffer = io.BytesIO()
        if small:
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "JPEG", quality=85)
        return buffer.getvalue(), "image/png" if small else "image/jpeg"
