"""Groups that nobody labelled: clusters of a class's images by their features, and how they fare."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debias.randomness import stream

LEAST = 15  # images of a cluster: of fewer no accuracy is worth a line
_EACH, _MOST = 60, 6  # images a cluster on average, clusters a class
_ROUNDS, _DIMENSIONS = 25, 32
_NOTABLE = 0.8  # standard deviations by which a cluster's images differ from those of its class


@dataclass(frozen=True, eq=False)
class Cluster:
    """Images of one class that look alike.

    images : int64 [M], their places; shares : by method, the share that it gets right; apart : what sets them apart
    """

    target: int
    images: Tensor
    shares: dict[str, float]
    apart: tuple[str, ...]


def clusters_of(features: Tensor, targets: Tensor, seed: int) -> list[tuple[int, Tensor]]:
    """(target, places) of every cluster with at least `LEAST` images; features float [N, D] on the CPU.

    k-means within each class, in the first principal components of all images.
    """
    rows = features.float()
    rows = (rows - rows.mean(0)) / rows.std(0).clamp(min=1e-3)
    size = min(_DIMENSIONS, *rows.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, directions = torch.pca_lowrank(rows, q=size, center=False)
    rows = rows @ directions
    found = []
    for target in targets.unique().tolist():
        places = torch.nonzero(targets == target).flatten()
        count = max(1, min(_MOST, len(places) // _EACH))
        member = _k_means(rows[places], count, stream(seed, f"clusters of {target}"))
        found += [(target, places[member == one]) for one in range(count)]
    return [(target, places) for target, places in found if len(places) >= LEAST]


def _k_means(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The cluster of every row, int64 [N] (Lloyd, from rows that lie far apart: Arthur and Vassilvitskii, 2007)."""
    centres = rows[torch.randint(len(rows), (1,), generator=generator)]
    while len(centres) < count:
        far = torch.cdist(rows, centres).amin(1).square()
        if not bool(far.sum() > 0):
            break
        centres = torch.cat([centres, rows[torch.multinomial(far, 1, generator=generator)]])
    member = torch.zeros(len(rows), dtype=torch.int64)
    for _ in range(_ROUNDS):
        before, member = member, torch.cdist(rows, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, member, rows)
        sizes = torch.bincount(member, minlength=len(centres)).float()[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        if torch.equal(before, member):
            break
    return member


def set_apart(properties: dict[str, Tensor], places: Tensor, same: Tensor, most: int = 2) -> tuple[str, ...]:
    """What the images at `places` have more or less of than those of `same`, their class, in words.

    properties : of all images, float [N, 1] of those that are one number
    """
    found = []
    for name, values in properties.items():
        if values.shape[1] != 1:
            continue
        usual = values[same, 0]
        spread = float(usual.std())
        apart = float(values[places, 0].mean() - usual.mean()) / spread if spread > 0 else 0.0
        if abs(apart) >= _NOTABLE:
            found.append((abs(apart), f"{'more' if apart > 0 else 'less'} {name}"))
    return tuple(words for _, words in sorted(found, reverse=True)[:most])
