"""How well one property alone predicts the class."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debias.data.properties.intervals import Share, beyond

FOLDS = 5
# Of the curves that are fitted to a property: how many of each frequency. Ranks lie in [-1, 1].
_CURVES = 96
_FREQUENCIES = (1.0, 3.0, 9.0)
_RIDGE = 1e-2
_WORDS = 200  # that are told apart: the most frequent ones
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Predicted:
    """How well a property alone predicts the class of images that it was not fitted on.

    accuracy : mean over classes, on as many images; chance : 1 / classes; numbers : that the property consists of
    """

    name: str
    accuracy: Share
    chance: float
    numbers: int = 1

    @property
    def beyond(self) -> float:
        """What is reached of what chance leaves open."""
        return beyond(self.accuracy.value, self.chance)

    @property
    def beyond_low(self) -> float:
        """The same at the lower end of the interval."""
        return beyond(self.accuracy.low, self.chance)


def predicted(
    properties: Mapping[str, Tensor | Sequence[float | str]],
    targets: Tensor,
    classes: int,
    seed: int,
    bar: Callable[[int], object] = lambda done: None,
) -> list[Predicted]:
    """Cross-validated prediction of the class by each property alone, the best first.

    Numbers are turned into ranks, and smooth curves in them (random Fourier features, Rahimi & Recht 2007) are fitted
    to the classes by ridge regression, as are the most frequent words. Five folds, drawn from `seed`. Classes weigh the
    same and accuracy is their mean, so that guessing the largest class gains nothing.

    Parameters
    ----------
    properties
        Float [N, 1 or more], or N numbers and words.
    targets
        int64 [N] on the CPU.
    classes, seed
        How many classes there are; of the folds and curves.
    bar
        Told after each property.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(targets), generator=generator) % FOLDS
    count = torch.bincount(targets, minlength=classes)
    present = int((count > 0).sum())
    found = []
    for name, values in properties.items():
        if isinstance(values, Tensor):
            numbers, basis = values.shape[1], curves(values, seed)
        else:
            numbers, basis = 1, _of_column(values, seed)
        right = (_fitted(basis, targets, classes, fold).argmax(1) == targets).float()
        by_class = torch.zeros(classes).index_add_(0, targets, right) / count.clamp(min=1)
        mean = float(by_class[count > 0].mean())
        found.append(Predicted(name, Share(mean * len(targets), len(targets)), 1 / present, numbers))
        bar(1)
    return sorted(found, key=lambda one: (-one.accuracy.value, one.numbers))


def scores_of(
    values: Tensor, targets: Tensor, classes: int, seed: int, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What a property of images says of their class, of images that it was not fitted on.

    Parameters
    ----------
    values
        Of the images whose targets are known, float [N, d].
    targets
        int64 [N] on the CPU.
    classes, seed
        How many classes there are; of the folds and curves.
    others
        Of other images, float [M, d]; they are only looked at for their ranks.

    Returns
    -------
    Scores of the classes, float64 [N, classes] by the other folds, and [M, classes] of the others by all N.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(targets), generator=generator) % FOLDS
    more = values.new_zeros(0, values.shape[1]) if others is None else others
    basis = curves(torch.cat([values, more]), seed)
    own, beside = basis[: len(values)], basis[len(values) :]
    if not len(more):
        return _fitted(own, targets, classes, fold), beside.new_zeros(0, classes)
    weight = _weights(targets, classes)
    wanted = torch.nn.functional.one_hot(targets, classes).double()
    moment, product = (own * weight).T @ own, (own * weight).T @ wanted
    return _fitted(own, targets, classes, fold), beside @ torch.linalg.solve(moment + _ridge(own), product)


def curves(values: Tensor, seed: int) -> Tensor:
    """Smooth functions of the columns' ranks: float64 [N, D] of values [N, d]."""
    # Equal values get one rank, in the middle of those they take up.
    ordered = values.double().sort(dim=0).values.T.contiguous()
    own = values.double().T.contiguous()
    low, high = torch.searchsorted(ordered, own), torch.searchsorted(ordered, own, right=True)
    rank = ((low + high).double() / len(values) - 1).T
    # Always the same curves for as many columns, so that one property does not hang on which others there are.
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.ones(len(values), 1, dtype=torch.float64), rank]
    for frequency in _FREQUENCIES:
        direction = torch.randn(rank.shape[1], _CURVES, generator=generator, dtype=torch.float64)
        phase = torch.rand(_CURVES, generator=generator, dtype=torch.float64) * 2 * math.pi
        parts.append(torch.cos(rank @ direction * (frequency / math.sqrt(rank.shape[1])) + phase))
    return torch.cat(parts, 1)


def _fitted(basis: Tensor, targets: Tensor, classes: int, fold: Tensor) -> Tensor:
    """Of every image, the scores [N, classes] of a ridge regression on the other folds."""
    weight = _weights(targets, classes)
    wanted = torch.nn.functional.one_hot(targets, classes).double()
    parts = []
    for number in range(FOLDS):
        own = fold == number
        weighted = basis[own] * weight[own]
        parts.append((weighted.T @ basis[own], weighted.T @ wanted[own]))
    moments, products = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
    ridge = _ridge(basis)
    scores = torch.zeros(len(targets), classes, dtype=torch.float64)
    for number, (moment, product) in enumerate(parts):
        own = fold == number
        scores[own] = basis[own] @ torch.linalg.solve(moments - moment + ridge, products - product)
    return scores


def _weights(targets: Tensor, classes: int) -> Tensor:
    """Of every image, float64 [N, 1]: classes weigh the same."""
    each = 1 / torch.bincount(targets, minlength=classes).clamp(min=1).double()
    return each[targets][:, None] * len(targets) / classes


def _ridge(basis: Tensor) -> Tensor:
    return _RIDGE * len(basis) / 1000 * torch.eye(basis.shape[1], dtype=torch.float64)


def _of_column(values: Sequence[float | str], seed: int) -> Tensor:
    """Curves in numbers, where "unknown" comes before the least, or a column of ones and zeros for frequent words."""
    if all(isinstance(value, float | int) or value == UNKNOWN for value in values):
        known = [float(value) for value in values if value != UNKNOWN]
        below = min(known, default=0.0) - 1
        return curves(torch.tensor([below if value == UNKNOWN else float(value) for value in values])[:, None], seed)
    frequent = Counter(map(str, values)).most_common(_WORDS)
    words = {word: i + 1 for i, (word, _) in enumerate(frequent)}
    index = torch.tensor([words.get(str(value), 0) for value in values])
    return torch.nn.functional.one_hot(index, len(words) + 1).double()
