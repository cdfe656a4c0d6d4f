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


def out_of_fold(features: Tensor, targets: Tensor, classes: int, cell: Tensor, seed: int) -> Tensor:
    """What a linear classifier says of images that it was not fitted to, float32 [N, classes], as probabilities.

    Parameters
    ----------
    features
        float [N, D] or of several views [N, V, D], of which all are fitted to and the first is asked about; on the CPU.
    targets, classes
        int64 [N], and how many classes there are.
    cell
        int64 [N]: cells of class and pseudo bias label, which weigh the same.
    seed
        Of the folds.
    """
    views = features.float().view(len(features), -1, features.shape[-1])
    views = (views - views.mean((0, 1))) / views.std((0, 1)).clamp(min=1e-3)
    views = torch.cat([views, torch.ones(*views.shape[:2], 1)], 2)
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
        rows, scale = views[own].flatten(0, 1), weight[own].repeat_interleave(depth)[:, None] / depth
        moments.append((rows * scale).T @ rows)
        products.append((rows * scale).T @ wanted[own].repeat_interleave(depth, 0))
    moment, product = torch.stack(moments).sum(0), torch.stack(products).sum(0)
    ridge = _RIDGE * len(targets) * torch.eye(size)
    scores = torch.zeros(len(targets), classes)
    for number in range(FOLDS):
        own = fold == number
        fitted = torch.linalg.solve(moment - moments[number] + ridge, product - products[number])
        scores[own] = views[own, 0] @ fitted
    return torch.softmax(_SHARP * scores, 1)


def judged(probability: Tensor, targets: Tensor) -> Labels:
    """Labels that are probably wrong: the image is as sure of another class as images of that class usually are."""
    classes = probability.shape[1]
    given = probability.gather(1, targets[:, None])[:, 0]
    usual = torch.full((classes,), float("inf"))
    for label in range(classes):
        own = given[targets == label]
        if len(own):
            usual[label] = own.mean()
    others = probability.scatter(1, targets[:, None], -1.0)
    sure, other = others.max(1)
    wrong = (sure >= usual[other]) & (sure > given)
    order = torch.argsort(sure - given, descending=True, stable=True)
    return Labels(other, given, wrong, order[wrong[order]])
