"""From rates to words: what the shortcut is, how sure that is, and what would change it."""

from collections.abc import Sequence
from dataclasses import dataclass

from debias.data.operators import CONTROL, OPERATORS
from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.properties.intervals import Share, beyond
from debias.data.properties.prediction import Predicted
from debias.data.properties.telling import CELL, Effect, named_by
from debias.diagnosis.rates import Moved

# What it takes to name what an operator moves, where no property alone tells the class: at the unfavourable end of its
# interval it carries most answers along, ...
NAMED = 0.6
# ... and laid on images of other classes it tells their class nearly as well as a whole image does.
TELLS = 0.6
# Operators this close to the best one are told apart by how much they change: the least before others.
NEAR = 0.15
# A simple property that alone reaches this much of what chance leaves open is worth a word.
PLAIN = 0.5
# Of what the network gets wrong, this much is right to one trained against it: more than two networks of one kind
# differ by.
CORRECTED = 0.7
# They take a part of everything along, and so name nothing.
UNSPECIFIC = (CONTROL, "mix")
# A property that moves fewer answers than this beyond chance is one that the network makes little use of.
LITTLE = 0.15


@dataclass(frozen=True)
class Verdict:
    """What the user is told.

    kind : `named`; `unmoved`, where a network has learnt something that goes against the class in some images and no
        operator moves it; `none`, where nothing speaks of a shortcut; `unlearnt`, where nothing can be said
    words : one sentence; sure : how sure that is; doubt : what would change it
    operator : of what was named, or ""
    """

    kind: str
    words: str
    sure: str
    doubt: str
    operator: str = ""


def ranked(moved: Sequence[Moved]) -> list[Moved]:
    """The operators, the one that moves most first."""
    return sorted(moved, key=lambda one: -one.effect)


def convincing(moved: Sequence[Moved]) -> list[Moved]:
    """Operators that pass both thresholds of moving, the first of them to be named: of the best what changes least.

    Those that take several properties along are left out: of images of nature the whole spectrum is what they show.
    """
    passing = [
        one
        for one in ranked(moved)
        if one.operator.name not in UNSPECIFIC
        and not one.operator.general
        and one.effect_low >= NAMED
        and one.tells_low >= TELLS
        and one.transferred.low > one.stays.high
    ]
    if not passing:
        return []
    near = [one for one in passing if one.effect >= passing[0].effect - NEAR]
    first = min(near, key=lambda one: one.change)
    return [first, *(one for one in passing if one is not first)]


def telling(properties: Sequence[Predicted], moved: Sequence[Moved]) -> tuple[Predicted, Moved | None] | None:
    """The property that alone tells the class, and what the operator does that moves it; None where none tells it.

    Where no network could be asked, nothing is known of the operator, and no cell of the image is named.
    """
    by_operator = {one.operator.name: one for one in moved}
    effects = {name: Effect(one.effect, one.effect_low) for name, one in by_operator.items()}
    found = named_by(properties, effects or dict.fromkeys(OPERATORS, Effect(0.0, 0.0)))
    return None if found is None else (found, by_operator.get(DESCRIPTORS[found.name].operator))


def judge(
    moved: Sequence[Moved],
    accuracy: Share,
    classes: int,
    corrected: Share | None,
    properties: Sequence[Predicted] = (),
) -> Verdict:
    """The verdict.

    Parameters
    ----------
    moved
        What each operator does; empty where the network gives all images one answer.
    accuracy
        Of the network with the shortcut, on held-out images, as a mean over classes.
    classes
        How many there are.
    corrected
        Of the held-out images that it gets wrong, how many the network trained against it gets right.
    properties
        How well each alone predicts the class.
    """
    told = telling(properties, moved)
    if told is not None:
        return _told(*told)
    learnt = beyond(accuracy.low, 1 / classes)
    if not moved or learnt <= 0.1:
        return Verdict(
            "unlearnt",
            "nothing can be said: no network has learnt to tell the classes"
            + (
                " (it answers the same to every image)"
                if not moved
                else f" ({accuracy.value:.0%} right by chance 1 in {classes})"
            ),
            "not at all",
            "more images, or larger ones (image_size)",
        )
    named = convincing(moved)
    if named:
        return _named(named)
    best = next((one for one in ranked(moved) if one.operator.name not in UNSPECIFIC), None)
    most = ""
    if best is not None:
        most = (
            f"; most moves with {best.operator.where} ({best.operator.name}: {best.transferred.value:.0%} of the "
            f"answers, {best.chance.value:.0%} by chance)"
        )
    if corrected is not None and corrected.n >= 10 and corrected.low > CORRECTED:
        return Verdict(
            "unmoved",
            "a shortcut that these operators do not move: it may be in shapes or content; look at the suspects",
            f"unsure{most}; a network trained against it gets {corrected.value:.0%} of {corrected.n} mistakes right",
            "suspects that are simply hard or labelled wrongly would make it no shortcut",
        )
    return Verdict(
        "none",
        "no shortcut seen",
        f"no property alone tells the class{_best(properties)}, and none moves the answers as a shortcut would{most}",
        "a shortcut in shapes or content, which no operator moves; one that touches few images or a single class; more "
        "images than were looked at",
    )


def _told(one: Predicted, moved: Moved | None) -> Verdict:
    operator = OPERATORS[DESCRIPTORS[one.name].operator]
    where = operator.where
    mark = "a mark in " if operator.name.startswith(CELL) else "in "
    network = "no small network has learnt to tell the classes"
    if moved is not None:
        share, chance = moved.transferred.value, moved.chance.value
        network = f"{share:.0%} of a small network's answers move with it, {chance:.0%} by chance"
    words = (
        f"the shortcut is {mark}{where} ({one.name} alone tells the class of {one.accuracy.value:.0%} of the images, "
        f"by chance {one.chance:.0%}; {network})"
    )
    how = "very sure" if one.beyond_low >= 0.88 else "fairly sure"
    sure = f"{how}: {one.accuracy.low:.0%} to {one.accuracy.high:.0%} of {one.accuracy.n} images"
    if moved is not None and moved.effect_low < LITTLE:
        sure += "; but a small network makes little use of it, and another one need not either"
    doubt = (
        f"if the classes differ in {where} by their nature (as ripe and unripe do in colour), it is no shortcut; "
        "look at the examples"
    )
    return Verdict("named", words, sure, doubt, operator.name)


def _best(properties: Sequence[Predicted]) -> str:
    """The image property that tells most, in brackets."""
    best = max((one for one in properties if one.name in DESCRIPTORS), key=lambda one: one.beyond, default=None)
    if best is None:
        return ""
    return f" (most: {best.name}, {best.accuracy.value:.0%}, by chance {best.chance:.0%})"


def _named(named: Sequence[Moved]) -> Verdict:
    first = named[0]
    others = [one for one in named[1:] if one.operator.where != first.operator.where]
    also = f"; next: {others[0].operator.name} {others[0].transferred.value:.0%}" if others else ""
    words = (
        f"the shortcut is in {first.operator.where} ({first.transferred.value:.0%} of the answers move with "
        f"{first.operator.summary}, {first.chance.value:.0%} by chance{also})"
    )
    if first.operator.name.startswith(CELL):
        words = words.replace("the shortcut is in", "the shortcut is a mark in", 1)
    margin = min(first.effect_low, first.tells_low)
    how = "very" if margin >= 0.85 else "fairly" if margin >= 0.7 else "just"
    sure = {"very": "very sure", "fairly": "fairly sure", "just": "just beyond the threshold: have it confirmed"}[how]
    sure += (
        f": {first.transferred.low:.0%} to {first.transferred.high:.0%} of {first.transferred.n} pairs, and "
        f"{first.told.value:.0%} of the donors' classes told by it alone"
    )
    doubt = (
        f"if the classes differ in {first.operator.where} by their nature (as ripe and unripe do in colour), it is no "
        "shortcut; look at the examples"
    )
    return Verdict("named", words, sure, doubt, first.operator.name)


def plain_words(properties: Sequence[Predicted]) -> list[str]:
    """A line for each simple property that predicts the class suspiciously well."""
    return [
        f"{one.name} alone predicts the class of {one.accuracy.value:.0%} of the images (by chance {one.chance:.0%})"
        for one in properties
        if one.beyond_low >= PLAIN
    ]
