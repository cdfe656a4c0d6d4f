"""What an operator is: it moves one kind of property from one image onto another."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Apply = Callable[[Tensor, Tensor], Tensor]


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
        What a person would call the property: "the colours".
    apply
        Images and donors, both float [B, C, H, W] in [0, 1] on one device, to images of the same shape and range.
        Each image is changed by its own donor alone, and T(x, x) = x. Nothing is drawn at random.
    colour
        Whether it is about colours, so that on grey images another operator does the same under a better name.
    general
        Whether it takes several properties along, so that a narrower operator that moves as much says more.
    """

    name: str
    summary: str
    where: str
    apply: Apply
    colour: bool = False
    general: bool = False
