"""What an operator is: it moves one kind of property from one image onto another."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Apply = Callable[[Tensor, Tensor], Tensor]
Area = Callable[[Tensor], Tensor]
_PART = 256


@dataclass(frozen=True)
class Operator:
    """T(x, z): the images x with one property of the donors z.

    Parameters
    ----------
    name
        How tables and settings call it.
    summary
        What is moved, in plain words: "the means and spreads of the colour channels".
    where
        What the user would call the property: "the colours".
    apply
        Images and donors, both float [B, C, H, W] in [0, 1] on one device, to images of the same shape and range.
        Each image is changed by its own donor alone, and T(x, x) = x. Nothing is drawn at random.
    colour
        Whether it is about colours, so that on grey images another operator does the same under a better name.
    general
        Whether it takes several properties along, so that a narrower operator that moves as much says more.
    thorough
        What leaves nothing of the property in x where `apply` leaves traces of it, and takes other properties along:
        for training, not for measuring what moves a network. T(x, x) = x holds of it too. None: `apply` itself.
    area
        Of one that is about a place: where that is in images [B, C, H, W], bool [H, W]. None: everywhere, as a tint.
    """

    name: str
    summary: str
    where: str
    apply: Apply
    colour: bool = False
    general: bool = False
    area: Area | None = None
    thorough: Apply | None = None

    @property
    def taking_away(self) -> Apply:
        """What training images are changed by, so that nothing in x tells what x had."""
        return self.thorough or self.apply


def combined(operators: Sequence[Operator]) -> Operator:
    """Several operators as one: what one has changed is changed by the next, all of them by the same donor."""
    if len(operators) == 1:
        return operators[0]

    def apply(x: Tensor, z: Tensor) -> Tensor:
        return functools.reduce(lambda images, one: one.apply(images, z), operators, x)

    def thorough(x: Tensor, z: Tensor) -> Tensor:
        return functools.reduce(lambda images, one: one.taking_away(images, z), operators, x)

    return Operator(
        "+".join(one.name for one in operators),
        ", ".join(one.summary for one in operators),
        " and ".join(one.where for one in operators),
        apply,
        any(one.colour for one in operators),
        any(one.general for one in operators),
        thorough=thorough,
    )


def moved(apply: Apply, images: Tensor, donors: Tensor) -> Tensor:
    """uint8 images [N, C, H, W] with a property of others of them: image i with that of image `donors[i]`.

    apply : of an operator, its `apply` or what it is `taking_away` by
    """
    parts = []
    for rows in torch.arange(len(images)).split(_PART):
        x, z = (images[which].float() / 255 for which in (rows, donors[rows]))
        parts.append((apply(x, z) * 255).round().to(torch.uint8))
    return torch.cat(parts)
