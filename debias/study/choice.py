"""The choice among the methods of a study, by held-out images and without bias labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PLAIN = "erm"
MOVING = "property_moved"
# By how many standard errors of the difference a method has to be better than one that is preferred to it.
ENOUGH = 1.0
# And by how many what held-out images say as they are goes before what they say with the shortcut of others.
SURELY = 2.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What methods get right of some images.

    right : by method, bool [N]; cell : the cell of class and shortcut of each image, int64 [N]
    """

    right: Mapping[str, Tensor]
    cell: Tensor

    def balanced(self, method: str) -> float:
        """Mean over cells of the share that a method gets right, in [0, 1]."""
        return balanced(self.right[method], self.cell)

    def beaten(self, one: str, by: str, enough: float = ENOUGH) -> bool:
        """Whether a method is worse than another by more than so many standard errors of the difference."""
        mean, error = difference(self.right[by], self.right[one], self.cell)
        return mean > enough * error


def recommended(verdict: str, methods: Sequence[str], real: Evidence, moved: Evidence | None = None) -> str:
    """The method to use by the kind of verdict: `chosen_of`, and the plain one where no shortcut was seen.

    There pseudo labels say which images are hard, and what does better on these is no better elsewhere.
    """
    return PLAIN if verdict in ("none", "unlearnt") else chosen_of(methods, real, moved)


def preferred(methods: Sequence[str], telling: bool) -> tuple[str, ...]:
    """The methods, those that are preferred first, by whether images with the shortcut of others can be told from them.

    Where they cannot (`faithful`), to move the shortcut leaves something of it, and whether training on such images
    takes it away cannot be seen: then that is preferred to the plain method alone.
    """
    if telling or MOVING not in methods:
        return tuple(methods)
    return tuple(sorted(methods, key=lambda method: (method == PLAIN, method == MOVING)))


def chosen_of(methods: Sequence[str], real: Evidence, moved: Evidence | None = None) -> str:
    """The first method that no other one beats by more than chance, of those that do better than the plain one.

    What is compared is the accuracy on held-out images as a mean over cells of class and pseudo bias label (uLA's
    rule, `valid_pseudo`). All methods are asked about the same images, so the standard error is that of the difference.
    Few of these images go against the shortcut. Of images that were given the shortcut of others about half do, so that
    these decide where there are some, among the methods that are not surely beaten on images as they are.

    Parameters
    ----------
    methods
        Those that are preferred first.
    real
        What they get right of held-out images as they are.
    moved
        And of images that were given the shortcut of others; None where that cannot be told from them (`faithful`).
    """
    methods = list(methods)
    if moved is not None:
        kept = [one for one in methods if not any(real.beaten(one, other, SURELY) for other in methods)]
        methods = kept or methods
    by = real if moved is None else moved
    plain = by.balanced(PLAIN) if PLAIN in methods else -math.inf
    methods = [method for method in methods if method == PLAIN or by.balanced(method) > plain]
    for method in methods:
        if not any(by.beaten(method, other) for other in methods if other != method):
            return method
    return max(methods, key=by.balanced)


def faithful(real: Evidence, moved: Evidence) -> bool:
    """Whether the plain method, which has the shortcut, minds that it moves as much as it minds that it is another.

    Where it gets more right by more than chance, something of the shortcut stays with the image: blur, say, is not
    taken away by what sharpens. What other methods get right of such images says nothing then.
    """
    gap = moved.balanced(PLAIN) - real.balanced(PLAIN)
    nothing = torch.zeros((), dtype=torch.bool)
    errors = [difference(one.right[PLAIN], nothing.expand_as(one.right[PLAIN]), one.cell)[1] for one in (real, moved)]
    return gap <= SURELY * math.hypot(*errors)


def agreed_cells(target: Tensor, labels: Sequence[Tensor], classes: int) -> tuple[Tensor, Tensor]:
    """Images whose pseudo labels agree, and the cells of these: places int64 [M], cell of class and label int64 [M].

    A miner's mistakes fill the cells of images that go against the shortcut with others, and two miners seldom make the
    same one. All images are taken where there is one miner.

    target : int64 [N]; labels : of each miner, int64 [N]
    """
    same = torch.ones(len(target), dtype=torch.bool)
    for one in labels[1:]:
        same &= one == labels[0]
    places = torch.nonzero(same).flatten()
    first = labels[0] if labels else torch.zeros_like(target)
    return places, (target * classes + first)[places]


def balanced(right: Tensor, cell: Tensor) -> float:
    """Mean over cells of the share that is right, in [0, 1]."""
    values = [float(right[cell == one].float().mean()) for one in cell.unique()]
    return sum(values) / len(values) if values else math.nan


def difference(first: Tensor, second: Tensor, cell: Tensor) -> tuple[float, float]:
    """By how much the first is better as a mean over cells, and the standard error of that.

    A cell in which the two differ nowhere has the error of one image that might have: of few images nothing is certain.
    """
    means, variances = [], []
    for one in cell.unique():
        apart = first[cell == one].double() - second[cell == one].double()
        count = len(apart)
        means.append(float(apart.mean()))
        variances.append(max(float(apart.var(unbiased=False)), 1 / count) / count)
    return sum(means) / len(means), math.sqrt(sum(variances)) / len(means)
