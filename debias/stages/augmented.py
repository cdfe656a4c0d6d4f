"""An operator by itself, with nothing mined: cross-entropy on images that are given a property of others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.data.operators import CONTROL, OPERATORS
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.classifier import (
    fit_classifier,
    model_artifact,
    network_setting,
    new_classifier,
    training_settings,
)
from debias.stages.common.moving import Mover
from debias.training.stage import Artifact, Context, Stage


class Augmented(Stage):
    """Plain cross-entropy on T(x, z), with an operator that is named, or drawn by the seed.

    What the stage `transfer` is to be measured against: the same augmentation where somebody knew it, and one of the
    family where nobody does.
    """

    name = "augmented"
    summary = "cross-entropy on images that are given a property of others; nothing is mined, nothing chosen"
    gives = ("model",)
    read_outs = ("model",)
    takes_features = False
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        operator=Setting("random", "what is moved; random: drawn by the seed", choices=("random", *OPERATORS)),
        share=Setting(1.0, "share of the images that the operator is applied to", low=0, high=1),
        epochs=Setting(20, "passes over the training images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch", low=2),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        name = ctx.own["operator"]
        if name == "random":
            family = [one for one in OPERATORS if one != CONTROL]
            name = family[derive(ctx.seed, self.name, "operator") % len(family)]
            ctx.say(f"{self.name}: the operator is {name}")
        spec, model = new_classifier(ctx, ctx.own["network"], self.name)
        mover = Mover(OPERATORS[name], ctx.own["share"], ctx.task)

        def loss(batch: Batch) -> Tensor:
            return cross_entropy(model(mover(batch.images, ctx.generator).images), batch.target)

        fitted = fit_classifier(ctx, model, loss)
        report = replace(fitted.report(), augmentation=name)
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": report}
