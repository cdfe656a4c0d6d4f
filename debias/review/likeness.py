"""Which images are alike: by features of a pretrained network, or where there are none by coarse pixels."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from debias.data.mapped import MappedImages

PIXELS = "coarse pixels"
# The grid of the coarse pixels, images that are read together, and directions that the map and UMAP start from.
_GRID, _BATCH, _DIRECTIONS = 8, 512, 32

Embed = Callable[[], Tensor]


class Likeness:
    """Vectors of images, computed when they are first asked for.

    Parameters
    ----------
    embed
        Gives them, float [N, D].
    words
        What they are, for people.
    """

    def __init__(self, embed: Embed, words: str) -> None:
        self.words = words
        self._embed, self._lock = embed, threading.Lock()
        self._unit: Tensor | None = None
        self._maps: dict[str, np.ndarray] = {}

    def near(self, place: int) -> np.ndarray:
        """Cosine distance of every image to one, float32 [N], from 0 to 2."""
        unit = self._vectors()
        return (1 - (unit @ unit[place].to(unit.dtype)).float()).clamp(0, 2).numpy()

    def map(self, way: str = "pca") -> np.ndarray:
        """Places on a map, float32 [N, 2] from 0 to 1, by `pca` or `umap`."""
        unit = self._vectors()
        with self._lock:
            if way not in self._maps:
                flat = main_directions(unit)
                self._maps[way] = scaled(_umap(flat) if way == "umap" else flat[:, :2])
            return self._maps[way]

    def _vectors(self) -> Tensor:
        """Vectors of length 1 of standardised values."""
        with self._lock:
            if self._unit is None:
                rows = self._embed().float()
                # Values that hardly ever differ are not blown up.
                deviation = rows.std(0, correction=0)
                rows = (rows - rows.mean(0)) / deviation.clamp(min=0.05 * float(deviation.mean()) + 1e-8)
                self._unit = nn.functional.normalize(rows, dim=1)
            return self._unit


def has_umap() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("umap") is not None


def _umap(rows: np.ndarray) -> np.ndarray:
    import umap

    return np.asarray(umap.UMAP(n_components=2, random_state=1).fit_transform(rows), dtype=np.float32)


def main_directions(rows: Tensor) -> np.ndarray:
    """Coordinates along the directions of largest variance, float32 [N, at most 32]; the same every time."""
    centred = rows - rows.mean(0)
    count = max(2, min(_DIRECTIONS, *rows.shape))
    # A random start, but not of the process's stream; ten more than are wanted make the wanted ones exact.
    start = torch.randn(rows.shape[1], count + 10, generator=torch.Generator().manual_seed(1))
    basis = centred @ start
    for _ in range(3):
        basis = centred @ (centred.T @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    left, values, _ = torch.linalg.svd(basis.T @ centred, full_matrices=False)
    found = (basis @ left * values)[:, :count]
    # A direction's sign is chance: of the image farthest out it is positive.
    signs = torch.sign(found.gather(0, found.abs().argmax(0, keepdim=True)))
    flat = (found * torch.where(signs == 0, 1.0, signs)).numpy()
    return flat if flat.shape[1] >= 2 else np.concatenate([flat, np.zeros_like(flat)], axis=1)


def scaled(places: np.ndarray) -> np.ndarray:
    """From 0 to 1 along each axis, by all but the outermost hundredths: a few far out ones do not press the rest."""
    low, high = np.percentile(places, [0.5, 99.5], axis=0)
    return np.clip((places - low) / np.maximum(high - low, 1e-9), 0, 1).astype(np.float32)


def coarse(images: Tensor | MappedImages) -> Tensor:
    """Mean colours of a grid of 8 x 8, float32 [N, C * 64]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        some = images[torch.arange(start, min(start + _BATCH, len(images)))].float() / 255
        parts.append(nn.functional.adaptive_avg_pool2d(some, _GRID).flatten(1))
    return torch.cat(parts)
