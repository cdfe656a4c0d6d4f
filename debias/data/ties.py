"""Which value of the bias each class is tied to, where nothing but labelled training images can say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ALIGNED, CONFLICTING, NEITHER = 1, -1, 0
# How many standard errors a share must lie above that of the other classes.
CERTAIN = 2.0


def find_ties(counts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Whether the images of a cell are aligned (1), conflicting (-1), or neither (0), int8 [T, B].

    A class is tied to the value of the bias that has a larger share of the class's images than of the other classes'.
    Shares within a class are compared, not counts, so that a large class does not decide for a small one. Classes and
    values are paired one to one, for the largest sum of shares; what is left over where their numbers differ joins the
    one in which its share is largest. A tie that may be chance, as it is less than two standard errors large, is none:
    images of a class without a tie, or with a value that is tied to no class, are neither aligned nor conflicting.

    counts : int64 [T, B], training images of each class and value; every class has an image
    """
    n_targets, n_biases = counts.shape
    ties = np.full(counts.shape, CONFLICTING, dtype=np.int8)
    if n_targets < 2 or n_biases < 2:
        return np.zeros_like(ties)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share, certain = counts / totals, _certain(counts, totals)
    # Not above: as long to import as half of torch, for own images with bias labels alone.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(share, maximize=True)
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    pairs += [(int(share[:, bias].argmax()), bias) for bias in range(n_biases) if bias not in columns]
    pairs += [(target, int(share[target].argmax())) for target in range(n_targets) if target not in rows]
    for target, bias in pairs:
        if certain[target, bias]:
            ties[target, bias] = ALIGNED
    aligned = ties == ALIGNED
    ties[~aligned.any(axis=1)] = NEITHER
    ties[:, ~aligned.any(axis=0)] = NEITHER
    return ties


def _certain(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a value's share of a class lies above the mean of its shares of the other classes by more than chance."""
    others = len(counts) - 1
    share = counts / totals
    # One image more on either side: a share of 0 or 1 of a few images is not certain.
    smooth = (counts + 1) / (totals + 2)
    variance = smooth * (1 - smooth) / totals
    elsewhere = (share.sum(axis=0) - share) / others
    spread = np.sqrt(variance + (variance.sum(axis=0) - variance) / others**2)
    return share - elsewhere > CERTAIN * spread


def order_of(ties: NDArray[np.int8]) -> list[int]:
    """The values of the bias, those of the first class first; those that are tied to no class come last."""
    aligned = ties == ALIGNED
    first = np.where(aligned.any(axis=0), aligned.argmax(axis=0), len(ties))
    return np.argsort(first, kind="stable").tolist()


def is_diagonal(ties: NDArray[np.int8]) -> bool:
    """Whether class i is tied to value i, and to no other."""
    return ties.shape[0] == ties.shape[1] and bool((ties == 2 * np.eye(len(ties), dtype=np.int8) - 1).all())


def ties_notes(ties: NDArray[np.int8], targets: Sequence[str], biases: Sequence[str]) -> list[str]:
    """Lines for the user about the ties where they are not one to one, and about those that cannot be said."""
    aligned = ties == ALIGNED
    if not aligned.any():
        return [
            "no class is tied to a value of the bias: within the classes their shares differ by no more than chance, "
            "so there are no aligned and conflicting images and no such figures"
        ]
    loose = [name for name, tied in zip(targets, aligned.any(axis=1), strict=True) if not tied]
    idle = [name for name, tied in zip(biases, aligned.any(axis=0), strict=True) if not tied]
    lines = []
    if loose or idle or len(targets) != len(biases):
        said = [
            f"{name} to {' and '.join(bias for bias, tied in zip(biases, row, strict=True) if tied)}"
            for name, row in zip(targets, aligned, strict=True)
            if row.any()
        ]
        lines.append(f"by their shares of the training images, these are tied: {', '.join(said[:10])}" + _more(said))
    for what, names in (("class", loose), ("bias", idle)):
        if names:
            lines.append(
                f"images of {what} {', '.join(names[:10])}{_more(names)} count as neither aligned nor conflicting: no "
                "tie can be said"
            )
    return lines


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 10} more" if len(names) > 10 else ""
