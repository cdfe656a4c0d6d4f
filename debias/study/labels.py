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
# Share of images with other labels among those that the classifier is surest of.
_RATE = 0.05


@dataclass(frozen=True, eq=False)
class Labels:
    """What is said of the labels of training images.

    other : int64 [N], the class that the image looks like; given : float [N], how much it looks like its label;
    wrong : bool [N], whether the label is probably wrong; order : int64 [M], these images, the surest first
    """

    other: Tensor
    given: Tensor
    wrong: Tensor
    order: Tensor


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
        float [N, D] of the images that are asked about; None: their first views.
    """
    views = features.float()
    rows = views[:, 0] if asked is None else asked.float()
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
    scores = torch.zeros(len(targets), classes)
    for number in range(FOLDS):
        own = fold == number
        fitted = torch.linalg.solve(moment - moments[number] + ridge, product - products[number])
        scores[own] = rows[own] @ fitted
    return torch.softmax(_SHARP * scores, 1)


def judged(probability: Tensor, targets: Tensor) -> Labels:
    """Labels that are probably wrong: where a classifier is as sure as it hardly ever is without being right.

    Of all images that it is as sure of, or surer, at least 95 % must have the label that it says: where classes are
    hard to tell apart, it is the classifier that is wrong.
    """
    given = probability.gather(1, targets[:, None])[:, 0]
    sure, other = probability.scatter(1, targets[:, None], -1.0).max(1)
    agrees = given >= sure
    order = torch.argsort((given - sure).abs(), descending=True, stable=True)
    apart = (~agrees[order]).double().cumsum(0)
    rate = apart / torch.arange(1, len(order) + 1)
    passing = torch.nonzero((rate <= _RATE) & ~agrees[order]).flatten()
    wrong = torch.zeros(len(targets), dtype=torch.bool)
    if len(passing):
        upto = order[: int(passing.max()) + 1]
        wrong[upto[~agrees[upto]]] = True
    found = order[wrong[order]]
    return Labels(other, given, wrong, found)
