"""Ways to train with an operator: those that are worth a trial, and the decision for one of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from debias.data.operators import CONTROL, OPERATORS
from debias.data.properties.prediction import Predicted
from debias.stages.common.moving import Rates

# Percent by which operators on one property differ that do about the same.
ALIKE = 2.0
# What is tried of an operator: of how many images, and by which loss. With every image changed by a donor that is
# drawn whatever the target, pseudo labels say nothing about it any more, and both losses are one.
VARIANTS = ((1.0, "plain"), (0.5, "balanced"))


@dataclass(frozen=True)
class Way:
    """A way to train: an operator, the share of images that it is applied to, and the loss (plain, or balanced)."""

    operator: str
    share: float
    loss: str

    def __str__(self) -> str:
        if self.operator == CONTROL:
            return f"nothing moved, {self.loss} loss"
        of = "every image" if self.share >= 1 else f"{100 * self.share:g} % of the images"
        return f"{self.operator} on {of}, {self.loss} loss"


FALLBACK = Way(CONTROL, 0.0, "balanced")


@dataclass(frozen=True)
class Trial:
    """What a short training gets right, in percent, of training images that it left out.

    balanced : over cells of target and pseudo bias label; moved : by operator, of images that the operator has given a
    property of others, as a mean over targets
    """

    balanced: float
    moved: Mapping[str, float] = field(default_factory=dict)

    @property
    def least(self) -> float:
        """The least of all. A network without the shortcut does not mind what moves it, nor which operator does."""
        return min(self.balanced, *self.moved.values()) if self.moved else self.balanced


@dataclass(frozen=True)
class Decision:
    """The way that was chosen, the rates of every operator, and the trial of every way that was tried.

    margin : by how much (%) two ways may differ by chance alone
    """

    way: Way
    rates: Mapping[str, Rates]
    tried: Mapping[Way, Trial]
    margin: float = 0.0

    def report(self) -> dict[str, Any]:
        """Plain data for the record of a run."""
        return {
            "chosen": asdict(self.way),
            "rates": {name: rates._asdict() for name, rates in self.rates.items()},
            "tried": [
                {**asdict(way), "balanced": trial.balanced, "moved": dict(trial.moved), "least": trial.least}
                for way, trial in self.tried.items()
            ],
            "margin": self.margin,
        }

    def figures(self) -> dict[str, float]:
        """About the operator that was chosen, and how it did where ways were compared, in percent."""
        found = {"operator/share/chosen": 100 * self.way.share}
        rates = self.rates.get(self.way.operator)
        if rates is not None:
            known = {name: value for name, value in rates._asdict().items() if value is not None}
            found |= {f"operator/{name}/train": value for name, value in known.items()}
        if self.way in self.tried:
            found["operator/balanced/held_out"] = self.tried[self.way].balanced
            found["operator/least/held_out"] = self.tried[self.way].least
        return found


def moving(rates: Mapping[str, Rates], least: float) -> dict[str, float]:
    """What an operator moves and keeps, in percent, of those that move more than they leave and at least `least`."""
    return {
        name: rate.transferred * (1 if rate.kept is None else rate.kept / 100)
        for name, rate in rates.items()
        if name != CONTROL and rate.transferred >= least and rate.transferred > rate.stays
    }


def asked_about(rates: Mapping[str, Rates], least: float, named: str = "") -> list[str]:
    """Operators under which trials are compared: those that move the answers and nothing but one property.

    Those that take several along change what is shown too, and would prefer the way that has trained with them. The
    operator of a property that alone tells the class is always among them: where no training image goes against the
    shortcut, nothing else tells a network that reads it from one that does not.

    named : the operator of the property that alone tells the class, or ""
    """
    names = [*moving(rates, least), named]
    return [name for name in OPERATORS if name in names and not OPERATORS[name].general]


def variants(operator: str, own: Mapping[str, Any]) -> list[Way]:
    """The ways to train with one operator, but those that settings rule out."""
    ways = [
        Way(operator, own["share"] or share, loss if own["loss"] == "chosen" else own["loss"])
        for share, loss in VARIANTS
    ]
    return list(dict.fromkeys(ways))


def ways_to_try(rates: Mapping[str, Rates], own: Mapping[str, Any], named: str = "") -> list[Way]:
    """A way for each operator that is worth a trial, and last the fallback unless settings name an operator.

    Operators that move less than they leave, or than `least` percent, are left out. The others come by what they move
    and keep, of each property of images one: of those that do about the same the first in the list of operators, which
    is the simplest. Where a property alone tells the class, its operator comes first, whatever it moves, and of the
    others those that move more: a border may tell the class where all of the background is coloured.

    rates : of every operator, as `rates_of` gives them; named : operator of the property that tells the class, or ""
    """
    if own["operator"] != "chosen":
        return variants(own["operator"], own)[:1]
    moved = moving(rates, own["least"])
    best: dict[str, str] = {}
    # What takes several properties along comes after a narrower one that moves about as much.
    for name in sorted(moved, key=lambda name: ALIKE * OPERATORS[name].general - moved[name]):
        best.setdefault(OPERATORS[name].where, name)
    names = [
        next(
            name
            for name in OPERATORS
            if name in moved and OPERATORS[name].where == place and moved[name] >= moved[first] - ALIKE
        )
        for place, first in best.items()
    ]
    if named:
        enough = rates[named].transferred + ALIKE if named in rates else 0.0
        names = [name for name in names if name != named and rates[name].transferred > enough]
    names = [*([named] if named else []), *names[: own["most"]]]
    return [*(variants(name, own)[0] for name in names), FALLBACK]


def first_of_the_best(tried: Mapping[Way, Trial], margin: float) -> Way:
    """The first way whose least accuracy is within a margin of the best one's.

    Ways come by what they promise: one that takes the shortcut away gives way to another only where that is better by
    more than chance makes of so few conflicting images.
    """
    best = max(trial.least for trial in tried.values())
    return next(way for way, trial in tried.items() if trial.least >= best - margin)


def margin_of(counts: Tensor) -> float:
    """Standard error (%) of a mean accuracy over cells of so many images each, int64 [cells], at its greatest.

    Cells without images are in no mean. The accuracy of a cell is taken for one half, where it varies most.
    """
    seen = counts[counts > 0].double()
    return float(100 * (0.25 / seen).sum().sqrt() / len(seen)) if len(seen) else 0.0


def told(decision: Decision, least: float, named: Predicted | None = None) -> list[str]:
    """What was found and decided, in lines for the user."""
    ranked = sorted((name for name in decision.rates if name != CONTROL), key=lambda n: -decision.rates[n].transferred)
    lines = []
    if ranked:
        share = [f"{name} {decision.rates[name].transferred:.1f} %" for name in ranked[:3]]
        control = decision.rates[CONTROL].transferred if CONTROL in decision.rates else 0.0
        lines.append(f"answers of the shortcut network that move along: {', '.join(share)} (nothing: {control:.1f} %)")
    if named is not None:
        lines.append(f"{named.name} alone tells the class of {named.accuracy.value:.0%} of the images")
    if decision.tried:
        asked = [name for name in OPERATORS if any(name in trial.moved for trial in decision.tried.values())]
        under = f", the least of that as they are and under {', '.join(asked)}" if asked else ""
        scores = ", ".join(f"{way}: {trial.least:.1f}" for way, trial in decision.tried.items())
        lines.append(
            f"trials, balanced accuracy on images they left out{under}, %: {scores}; the first is taken that is "
            f"within {decision.margin:.1f} of the best"
        )
    if decision.way == FALLBACK:
        why = "nothing that moves it does better than that" if decision.tried else f"none moves {least:g} % of them"
        lines.append(f"no operator takes the shortcut away ({why}): bias-balanced on the pseudo labels instead")
    else:
        lines.append(f"chosen: {decision.way} ({OPERATORS[decision.way.operator].summary})")
    return lines


def packed(decision: Decision) -> dict[str, Tensor]:
    """A decision as tensors of a checkpoint."""
    names, ways = list(OPERATORS), [*decision.tried] or [decision.way]
    losses = ("plain", "balanced")
    nothing = float("nan")
    rates = [
        [nothing if value is None else value for value in decision.rates[name]]
        if name in decision.rates
        else [nothing] * 3
        for name in names
    ]
    trials = [decision.tried.get(way, Trial(nothing)) for way in ways]
    rows = [
        [names.index(way.operator), way.share, losses.index(way.loss), trial.balanced]
        for way, trial in zip(ways, trials, strict=True)
    ]
    moved = [[trial.moved.get(name, nothing) for name in names] for trial in trials]
    return {
        "rates": torch.tensor(rates, dtype=torch.float64),
        "ways": torch.tensor(rows, dtype=torch.float64),
        "moved": torch.tensor(moved, dtype=torch.float64),
        "chosen": torch.tensor(ways.index(decision.way)),
        "margin": torch.tensor(decision.margin, dtype=torch.float64),
    }


def unpacked(tensors: Mapping[str, Tensor]) -> Decision:
    """The decision that `packed` packed."""
    names, losses = list(OPERATORS), ("plain", "balanced")

    def known(value: float) -> float | None:
        return None if value != value else value

    rates = {
        name: Rates(row[0], row[1], known(row[2]))
        for name, row in zip(names, tensors["rates"].tolist(), strict=True)
        if row[0] == row[0]
    }
    ways = [Way(names[int(i)], share, losses[int(j)]) for i, share, j, _ in tensors["ways"].tolist()]
    tried = {
        way: Trial(row[3], {name: value for name, value in zip(names, moved, strict=True) if value == value})
        for way, row, moved in zip(ways, tensors["ways"].tolist(), tensors["moved"].tolist(), strict=True)
        if row[3] == row[3]
    }
    return Decision(ways[int(tensors["chosen"])], rates, tried, float(tensors["margin"]))
