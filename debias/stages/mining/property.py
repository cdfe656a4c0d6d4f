"""Suspects are the images whose class a property of images alone gets wrong: no network is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from debias.data.mapped import in_memory
from debias.data.properties.alone import logits_by, telling_alone
from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.properties.looked_at import reduced
from debias.data.split import Split, stratified_choice
from debias.errors import UserError
from debias.losses.gce import log_odds
from debias.randomness import stream
from debias.settings import Setting, nearest
from debias.stages.common.classifier import difficulty
from debias.stages.common.scores import bias_artifact, mined_scores, mining_figures, pseudo_figures, report_of
from debias.training.artifacts import Artifact
from debias.training.heldout import HELD_OUT_BIAS, held_out_artifact
from debias.training.stage import Context, Settings, Stage

CHOSEN = "chosen"
LOOKED_AT = 4000  # images in which properties that tell the class are looked for
THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class ShortcutProperties(Artifact):
    """Names of the properties (`data.properties.descriptors`) that alone tell the class; none where none does."""

    names: Sequence[str]


class MineProperty(Stage):
    """Suspects go against a property that alone tells the class: a colour, a border, a mark in a corner.

    What the property takes an image for, fitted to other images, is its pseudo bias label. Where no property tells the
    class there are no suspects, and all images have one label. No bias label is read.
    """

    name = "mine_property"
    summary = "suspects and pseudo bias labels: what goes against a simple property that alone tells the class"
    gives = ("conflict_score", "bias", "properties", HELD_OUT_BIAS)
    settings: ClassVar[Mapping[str, Setting]] = {
        "property": Setting(
            CHOSEN, f"names of properties, with + between them; {CHOSEN}: those that alone tell the class"
        ),
    }
    shared = ()

    def check(self, settings: Settings) -> None:
        _named(settings[self.name]["property"])

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        train, task, classes = ctx.train, ctx.task, ctx.task.n_targets
        targets = train.target.cpu()
        names = _named(ctx.own["property"])
        if names is None:
            found = telling_alone(*_some(train, ctx), classes, ctx.seed)
            names = [one.told.name for one in found]
            for one in found:
                told = f"alone tells the class of {one.told.accuracy.value:.0%} of the images"
                ctx.say(f"{self.name}: {one.told.name} {told} (by chance {one.told.chance:.0%})")
            if not found:
                ctx.say(f"{self.name}: no property of the images alone tells their class; nothing is suspected")
        held = None if task.valid is None else task.valid.without_bias()
        if names:
            own, beside = logits_by(
                names, _small(train), targets, classes, ctx.seed, None if held is None else _small(held)
            )
        else:
            own = torch.nn.functional.one_hot(targets, classes).float()
            beside = torch.zeros(0 if held is None else len(held), classes)
        score, ranks = difficulty(own, targets), log_odds(own, targets)
        label = own.argmax(1) if names else torch.zeros_like(targets)
        report = report_of(mining_figures(score, THRESHOLD, task, ranks) | pseudo_figures(label, task))
        return {
            "conflict_score": mined_scores(ctx, score, THRESHOLD, ranks),
            "bias": bias_artifact(train.ids, label, classes, "pseudo"),
            "properties": ShortcutProperties(tuple(names)),
            HELD_OUT_BIAS: held_out_artifact(task, None if held is None else beside.argmax(1), classes),
            "report": report,
        }


def _named(text: str) -> list[str] | None:
    """Names of properties in a setting; None where they are to be chosen."""
    if text == CHOSEN:
        return None
    names = [name.strip() for name in str(text).split("+")]
    for name in names:
        if name not in DESCRIPTORS or not DESCRIPTORS[name].operator:
            movable = [one.name for one in DESCRIPTORS.values() if one.operator]
            raise UserError(
                f"mine_property.property={text!r}: no property is called {name!r}{nearest(name, movable)}; there are "
                f"{', '.join(movable)}"
            )
    return names


def _small(split: Split) -> Tensor:
    return reduced(in_memory(split.shown)).cpu()


def _some(train: Split, ctx: Context) -> tuple[Tensor, Tensor]:
    """Images and targets of up to `LOOKED_AT` training images of all classes."""
    target = train.target.cpu()
    share = LOOKED_AT / len(target)
    if share < 1:
        chosen = torch.nonzero(stratified_choice(target, share, stream(ctx.seed, "properties"))).flatten()
        train, target = train.subset(chosen), target[chosen]
    return _small(train), target
