"""Learning from Failure: a network biased on purpose tells another which images to weigh up (NeurIPS 2020)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.gce import gce
from debias.losses.reweight import UNSEEN, class_members, class_normalised, ema_update_, relative_difficulty
from debias.models.registry import Classifier
from debias.settings import Setting
from debias.stages.common.baselines import SECOND_DIVISION, network_of
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    network_setting,
    new_classifier,
    optimiser_for,
    training_settings,
)
from debias.training.artifacts import TrainedModel
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage


class LfF(Stage):
    """GCE for the biased network, cross-entropy weighted by the relative difficulty for the debiased one.

    Both difficulties are running averages per image, divided by the largest of the image's class.
    """

    name = "lff"
    summary = "LfF: weigh images by how much harder a biased network finds them"
    gives = ("model",)
    read_outs = ("model", "biased")
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network of both"),
        second_division=SECOND_DIVISION,
        q=Setting(0.7, "exponent of the generalised cross-entropy", low=0.01, high=1, search=("uniform", 0.3, 0.9)),
        alpha=Setting(0.7, "share of the old value in the running averages", low=0, high=1),
        epochs=Setting(100, "passes over the training images", low=1, quick=8),
        batch_size=Setting(256, "images in a training batch", low=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train, classes = ctx.own, ctx.train, ctx.task.n_targets
        spec, debiased = new_classifier(ctx, network_of(ctx), self.name)
        _, biased = new_classifier(ctx, network_of(ctx), f"{self.name} biased")
        model = nn.ModuleDict({"biased": biased, "debiased": debiased})
        members = class_members(train.target, classes)
        averages = {name: torch.full((len(train),), UNSEEN, device=ctx.device) for name in model}

        def weigh(name: str, batch: Batch, difficulty: Tensor) -> Tensor:
            ema_update_(averages[name], batch.index, difficulty, own["alpha"])
            return class_normalised(averages[name], batch.index, train.target, members)

        def loss(batch: Batch) -> Tensor:
            logits = {name: network(batch.inputs) for name, network in model.items()}
            each = {name: cross_entropy(z, batch.target, reduction="none") for name, z in logits.items()}
            known = {name: weigh(name, batch, each[name]) for name in each}
            weights = relative_difficulty(known["biased"], known["debiased"])
            return gce(logits["biased"], batch.target, own["q"]) + (weights * each["debiased"]).mean()

        batches, rounds = training_batches(ctx, own)
        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"model": debiased(images), "biased": biased(images)},
                main="model",
                tensors=averages,
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        states = {
            selection: {
                name.removeprefix("debiased."): value for name, value in state.items() if name.startswith("debiased.")
            }
            for selection, state in fitted.states().items()
        }
        assert isinstance(debiased, Classifier)
        artifact = TrainedModel(spec, states, read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}
