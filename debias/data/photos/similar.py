"""Images of two parts that look the same though their files differ: saved again, scaled, or compressed otherwise.

A difference hash (which of neighbouring cells of a coarse grey grid is lighter, 8 x 8 bits) finds candidates, and the
grids themselves decide. Both read prepared images, each once; it is asked for by the setting `similar`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 256
# Bits in which hashes may differ, and grey levels (of 255) by which grids may differ in the mean.
MOST_BITS, MOST_GREY = 6, 6.0


def look_of(arrays: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Coarse grey grids, float32 [N, 8, 9], of images uint8 [M, 3, S, S] each, in order."""
    grids = []
    for array in arrays:
        for start in range(0, len(array), _CHUNK):
            grey = array[start : start + _CHUNK].astype(np.float32).mean(axis=1)
            rows, columns = (
                np.linspace(0, side, cells + 1).astype(int) for side, cells in zip(grey.shape[1:], (8, 9), strict=True)
            )
            lines = np.stack([grey[:, a : max(b, a + 1)].mean(axis=1) for a, b in itertools.pairwise(rows)], axis=1)
            cells = [lines[:, :, a : max(b, a + 1)].mean(axis=2) for a, b in itertools.pairwise(columns)]
            grids.append(np.stack(cells, axis=2))
    return np.concatenate(grids) if grids else np.zeros((0, 8, 9), dtype=np.float32)


def pairs_alike(first: NDArray[np.float32], second: NDArray[np.float32]) -> list[tuple[int, int]]:
    """(i, j) for every grid i of the first for which there is one of the second that looks the same, the nearest j.

    Images without structure are like nothing: their hashes say nothing.
    """
    bits, known = _bits(first), _bits(second)
    plain = first.std(axis=(1, 2)) < MOST_GREY
    found = []
    for i in np.flatnonzero(~plain).tolist():
        near = np.flatnonzero((bits[i] != known).sum(axis=1) <= MOST_BITS)
        if len(near):
            apart = np.abs(second[near] - first[i]).mean(axis=(1, 2))
            best = int(apart.argmin())
            if apart[best] <= MOST_GREY:
                found.append((i, int(near[best])))
    return found


def _bits(grids: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (grids[:, :, 1:] > grids[:, :, :-1]).reshape(len(grids), 64)
