"""Which property, of those that alone tell the class, a shortcut is to be called after."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from debias.data.operators import OPERATORS
from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.properties.prediction import Predicted

# What it takes to name a property (docs/diagnose.md has the data on which this was set). It alone tells the class of
# images that it was not fitted on, at the lower end of its interval, this far beyond chance: ...
ALONE = 0.8
# ... and of properties that do, one that takes several along (the spectrum) gives way to a narrower one this close, ...
CLOSE = 0.1
# ... one that shows another as well (compression shows blur) to that other this close, ...
ALONG = 0.15
# ... and one of many numbers to one of few that does about as well.
AS_WELL = 0.03
# A cell of the image shows content too: it counts where the network's answers move with it as well, this far beyond
# chance.
CELL_MOVES = 0.2
# Where one property that tells the class moves so many answers, others that move so few are not what it is about.
MUCH, LITTLE = 0.5, 0.1
CELL = "patch_"  # how names of operators on cells begin


class Effect(NamedTuple):
    """Share of a network's answers that an operator moves, beyond chance, and the low end of its interval."""

    value: float
    low: float


def named_by(properties: Sequence[Predicted], effects: Mapping[str, Effect]) -> Predicted | None:
    """The property that alone tells the class and is the best name for it; None where none tells enough.

    Of several: a narrow one before one that takes it along; of cells of the image and properties of all of it those
    that move more answers, as a cell has the colours of the whole; then one of few numbers before one of many, and of
    as many the one that moves more.

    Parameters
    ----------
    properties
        How well each tells the class.
    effects
        Of each operator that was asked about, by name; a property whose operator is not there names nothing.
    """

    def effect(one: Predicted) -> Effect:
        return effects[DESCRIPTORS[one.name].operator]

    def of_cell(one: Predicted) -> bool:
        return DESCRIPTORS[one.name].operator.startswith(CELL)

    def takes_along(one: Predicted, other: Predicted) -> bool:
        return other.name in DESCRIPTORS[one.name].along and other.beyond >= one.beyond - ALONG

    asked = [one for one in properties if one.name in DESCRIPTORS and DESCRIPTORS[one.name].operator in effects]
    passing = [one for one in asked if one.beyond_low >= ALONE and (not of_cell(one) or effect(one).low >= CELL_MOVES)]
    if not passing:
        return None
    passing = [one for one in passing if not any(takes_along(one, other) for other in passing)]
    best = max(one.beyond for one in passing)
    narrow = [one for one in passing if not OPERATORS[DESCRIPTORS[one.name].operator].general]
    kept = [one for one in narrow if one.beyond >= best - CLOSE] or passing
    most = max(kept, key=lambda one: effect(one).value)
    if effect(most).value >= MUCH:
        # What the network does not answer by goes along with what it does answer by.
        kept = [one for one in kept if effect(one).value >= LITTLE]
    kept = [one for one in kept if of_cell(one) == of_cell(most)]
    best = max(one.beyond for one in kept)
    as_well = [one for one in kept if one.beyond >= best - AS_WELL]
    return min(as_well, key=lambda one: (one.numbers, -effect(one).value))
