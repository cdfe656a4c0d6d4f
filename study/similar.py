"""Images that are nearly the same by their features: copies that were cropped, scaled or compressed."""

from typing import NamedTuple

import torch
from torch import Tensor

# Cosine of two feature vectors about the mean. Other photographs of one class are far below it.
ALIKE = 0.94
_BLOCK = 1024
_MOST = 2000


class Pair(NamedTuple):
    """Places of two images among all that were given, the first before the second, and their cosine."""

    first: int
    second: int
    cosine: float


def pairs_alike(features: Tensor, least: float = ALIKE) -> list[Pair]:
    """Pairs of images that look the same, the nearest first, at most 2,000 of them; float [N, D] on the CPU."""
    rows = features.float()
    rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    found: list[Pair] = []
    for start in range(0, len(rows), _BLOCK):
        # Every pair once: those after the first one's place.
        cosine = rows[start : start + _BLOCK] @ rows[start:].T
        places = torch.nonzero((cosine >= least).triu(1))
        found += [
            Pair(start + i, start + j, float(cosine[i, j])) for i, j in places[: 10 * _MOST].tolist()
        ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.cosine)[:_MOST]
