"""Shortcuts in images that need no network to be seen: properties that alone tell the class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debias.data.operators import CONTROL, OPERATORS
from debias.data.operators.base import Operator, combined, moved
from debias.data.properties.descriptors import DESCRIPTORS, image_properties
from debias.data.properties.looked_at import is_grey
from debias.data.properties.prediction import Predicted, predicted, scores_of
from debias.data.properties.telling import CELL, Effect, named_by
from debias.randomness import stream

# At most so many shortcuts beside each other.
MOST = 3
# How sharply scores of a ridge regression, which lie about 0 and 1, are told apart.
SHARP = 8.0


@dataclass(frozen=True)
class Alone:
    """A property that alone tells the class, and how well it does where those before it have been moved."""

    told: Predicted

    @property
    def operator(self) -> Operator:
        """What moves it."""
        return OPERATORS[DESCRIPTORS[self.told.name].operator]


def telling_alone(
    images: Tensor, targets: Tensor, classes: int, seed: int, most: int = MOST, first: Predicted | None = None
) -> list[Alone]:
    """The properties that alone tell the class, the first the best name for it; none where no property does.

    Of two that go together the second says nothing once the first is moved: images are given the property of others,
    drawn whatever the class, and what still tells the class then is a further shortcut.

    Parameters
    ----------
    images
        uint8 [N, C, H, W] on the CPU, of 64 pixels or less along a side.
    targets
        int64 [N] on the CPU.
    classes, seed
        How many classes there are; of folds and donors.
    most
        How many are looked for.
    first
        One that is known, with a property that an operator moves.
    """
    grey = is_grey(images)
    found: list[Alone] = []
    while len(found) < most:
        one = first if not found and first is not None else _next(found, images, grey, targets, classes, seed)
        if one is None:
            break
        found.append(Alone(one))
        donors = torch.randperm(len(images), generator=stream(seed, f"donors of {one.name}"))
        images = moved(found[-1].operator.taking_away, images, donors)
    return found


def _next(
    found: Sequence[Alone], images: Tensor, grey: bool, targets: Tensor, classes: int, seed: int
) -> Predicted | None:
    properties = predicted(image_properties(images, grey), targets, classes, seed)
    known = {one.told.name for one in found}
    return named_by([one for one in properties if one.name not in known], _standing_out(properties))


def _standing_out(properties: Sequence[Predicted]) -> dict[str, Effect]:
    """By operator, how far a property tells the class; of a cell of the image, how far beyond most other cells.

    Content is all over an image, and what colours or blurs an image does so in every cell: a mark is in one or few.
    """
    cells = [one.beyond for one in properties if _operator(one).startswith(CELL)]
    usual = float(torch.tensor(cells).median()) if cells else 0.0
    found: dict[str, Effect] = {}
    for one in properties:
        name, less = _operator(one), usual if _operator(one).startswith(CELL) else 0.0
        if name and (name not in found or one.beyond - less > found[name].value):
            found[name] = Effect(one.beyond - less, one.beyond_low - less)
    return found


def _where(name: str) -> str:
    """What the user would call what a property's operator moves; the property itself where none moves it."""
    operator = DESCRIPTORS[name].operator
    return OPERATORS[operator].where if operator else name


def _operator(one: Predicted) -> str:
    return DESCRIPTORS[one.name].operator


def operator_of(names: Sequence[str]) -> Operator:
    """What moves properties of these names, all together; nothing for none of them."""
    return combined([OPERATORS[DESCRIPTORS[name].operator] for name in names] or [OPERATORS[CONTROL]])


def logits_by(
    names: Sequence[str], images: Tensor, targets: Tensor, classes: int, seed: int, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What properties alone say of images' classes, as logits of networks are read.

    With a property go the others that its operator's kind moves: what is called after the mean colour is told apart by
    all that is known of colours.

    names : at least one; images : uint8 [N, C, H, W] as of `telling_alone`; others : further ones, [M, C, H, W]

    Returns
    -------
    float32 [N, classes], of every image by what was fitted to others, and [M, classes].
    """
    grey = is_grey(images)
    own = image_properties(images, grey)
    more = None if others is None else image_properties(others, grey)
    sums = torch.zeros(len(images), classes), torch.zeros(0 if others is None else len(others), classes)
    for name in names:
        beside = [one for one in own if _where(one) == _where(name)]
        values = torch.cat([own[one] for one in beside], 1)
        those = None if more is None else torch.cat([more[one] for one in beside], 1)
        parts = scores_of(values, targets, classes, seed, those)
        for total, part in zip(sums, parts, strict=True):
            total += SHARP / len(names) * part.float()
    return sums
