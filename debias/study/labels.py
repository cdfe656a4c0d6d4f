"""Images whose label looks wrong, told apart from those that merely lack the shortcut.

A network that has the shortcut gets both wrong. One without it gets a conflicting image right, and a mislabelled one
wrong: so suspects are asked about again, by a classifier that was balanced against the shortcut and fitted to other
images (confident learning, Northcutt et al., JAIR 2021, with that change).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 5
_SHARP = 8.0
# Of a cell of class and pseudo label, how often an image may count at most beside one of the largest cell.
_MOST = 20.0
# Ridge on standardised features, as a share of the images that are fitted on.
_RIDGE = 0.3
# Share of images with other labels among those that the classifier is surest of; and of those alone that go against the
# shortcut, of which more have a wrong label, as such an image may have the look of the class that it shows.
_RATE, _RATE_AGAINST = 0.05, 0.3
# Of images that go against the shortcut, the least share that a classifier which is free of it gives their label, and
# how many there must be to tell.
_FREE, _ENOUGH = 0.5, 10


@dataclass(frozen=True, eq=False)
class Labels:
    """What is said of the labels of training images.

    other : int64 [N], the class that the image looks like; given : float [N], how much it looks like its label;
    wrong : bool [N], whether the label is probably wrong; order : int64 [M], these images, the surest first;
    free : whether the classifier is free of the shortcut: where it is not, no label is called wrong
    """

    other: Tensor
    given: Tensor
    wrong: Tensor
    order: Tensor
    free: bool = True


def out_of_fold(
    features: Tensor, targets: Tensor, classes: int, cell: Tensor, seed: int, asked: Tensor | None = None
) -> Tensor:
    """What a linear classifier says of images that it was not fitted to, float32 [N, classes], as probabilities.

    Parameters
    ----------
    features
        float [N, V, D] of several views, all of which are fitted to; on the CPU.
    targets, classes
        int64 [N], and how many classes there are.
    cell
        int64 [N]: cells of class and pseudo bias label, which weigh the same.
    seed
        Of the folds.
    asked
        float [N, Q, D] of the images that are asked about, of whose views the answers are averaged; None: the same.
    """
    views = features.float()
    rows = views if asked is None else asked.float()
    mean, spread = views.mean((0, 1)), views.std((0, 1)).clamp(min=1e-3)
    views, rows = ((part - mean) / spread for part in (views, rows))
    views, rows = (torch.cat([part, torch.ones(*part.shape[:-1], 1)], -1) for part in (views, rows))
    count = torch.bincount(cell).float()
    weight = (count.max() / count[cell]).clamp(max=_MOST)
    weight = weight * len(weight) / weight.sum()
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(targets), generator=generator) % FOLDS
    wanted = torch.nn.functional.one_hot(targets, classes).float()
    size, depth = views.shape[2], views.shape[1]
    moments, products = [], []
    for number in range(FOLDS):
        own = fold == number
        seen, scale = views[own].flatten(0, 1), weight[own].repeat_interleave(depth)[:, None] / depth
        moments.append((seen * scale).T @ seen)
        products.append((seen * scale).T @ wanted[own].repeat_interleave(depth, 0))
    moment, product = torch.stack(moments).sum(0), torch.stack(products).sum(0)
    ridge = _RIDGE * len(targets) * torch.eye(size)
    said = torch.zeros(len(targets), classes)
    for number in range(FOLDS):
        own = fold == number
        fitted = torch.linalg.solve(moment - moments[number] + ridge, product - products[number])
        said[own] = torch.softmax(_SHARP * (rows[own] @ fitted), 2).mean(1)
    return said


def judged(probability: Tensor, targets: Tensor, against: Tensor | None = None) -> Labels:
    """Labels that are probably wrong: where a classifier is as sure as it hardly ever is without being right.

    Of all images that it is as sure of, or surer, at least 95 % must have the label that it says: where classes are
    hard to tell apart, it is the classifier that is wrong. Of images that go against the shortcut it must be so among
    these alone for 70 %; and where it contradicts most of them it goes by the shortcut itself, so that nothing is said.

    Parameters
    ----------
    probability, targets
        float [N, classes] and int64 [N].
    against
        bool [N], which images go against the shortcut; None where there is none.
    """
    given = probability.gather(1, targets[:, None])[:, 0]
    sure, other = probability.scatter(1, targets[:, None], -1.0).max(1)
    agrees, certain = given >= sure, (given - sure).abs()
    wrong = _passing(agrees, certain, _RATE)
    free = True
    if against is not None and int(against.sum()) >= _ENOUGH:
        free = float(agrees[against].float().mean()) >= _FREE
        among = torch.zeros_like(wrong)
        among[against] = _passing(agrees[against], certain[against], _RATE_AGAINST)
        wrong &= (~against | among) if free else torch.zeros_like(wrong)
    order = torch.argsort(certain, descending=True, stable=True)
    return Labels(other, given, wrong, order[wrong[order]], free)


def _passing(agrees: Tensor, certain: Tensor, most: float) -> Tensor:
    """bool [N]: contradicted labels, as far down as at most a share of those as certain are contradicted."""
    order = torch.argsort(certain, descending=True, stable=True)
    apart = (~agrees[order]).double().cumsum(0)
    rate = apart / torch.arange(1, len(order) + 1)
    passing = torch.nonzero((rate <= most) & ~agrees[order]).flatten()
    found = torch.zeros(len(agrees), dtype=torch.bool)
    if len(passing):
        upto = order[: int(passing.max()) + 1]
        found[upto[~agrees[upto]]] = True
    return found
