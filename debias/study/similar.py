"""Images that are nearly the same: copies that were cropped, scaled or compressed.

Features find what shows the same and coarse grey grids what looks the same; copies are alike in both.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from debias.data.photos.similar import look_of

# Cosine of two feature vectors about the mean, and correlation of the grids of two images. Of twelve copies among 2,400
# photographs, cropped to nine tenths and compressed, these found ten, and five pairs of other photographs.
ALIKE, GRIDS_ALIKE = 0.7, 0.9
_BLOCK = 1024
_MOST = 2000


class Pair(NamedTuple):
    """Places of two images among all that were given, the first before the second, and their cosine."""

    first: int
    second: int
    cosine: float


def pairs_alike(features: Tensor, images: Tensor) -> list[Pair]:
    """Pairs of images that look the same, the nearest first, at most 2,000 of them.

    features : float [N, D]; images : uint8 [N, C, H, W]; on the CPU
    """
    rows = features.float()
    rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    grids = torch.from_numpy(look_of([images.numpy()])).flatten(1)
    grids = torch.nn.functional.normalize(grids - grids.mean(1, keepdim=True), dim=1)
    found: list[Pair] = []
    for start in range(0, len(rows), _BLOCK):
        # Every pair once: those after the first one's place.
        cosine = rows[start : start + _BLOCK] @ rows[start:].T
        places = torch.nonzero((cosine >= ALIKE).triu(1))
        same = (grids[start + places[:, 0]] * grids[start + places[:, 1]]).sum(1) >= GRIDS_ALIKE
        places = places[same]
        found += [
            Pair(start + i, start + j, float(cosine[i, j])) for i, j in places[: 10 * _MOST].tolist()
        ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.cosine)[:_MOST]
