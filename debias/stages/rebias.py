"""ReBias: features that do not depend on those of a network which is biased by its architecture (ICML 2020)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.errors import UserError
from debias.losses.hsic import dependence
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    hit_rate,
    network_setting,
    new_classifier,
    optimiser_for,
    step_decay,
    training_settings,
)
from debias.stages.common.pairs import states_of
from debias.training.artifacts import TrainedModel
from debias.training.job import Job, Logs, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Settings, Stage

# Networks that see single pixels, or 23 of them across.
_NEARSIGHTED = ("rebias_cnn_1x1", "rebias_cnn_1x1_small", "rebias_cnn_small", "end_cnn_small")


class ReBias(Stage):
    """Two updates on each batch, each by an optimiser of its own, over networks f and g; no bias labels.

    1. Cross-entropy of g - dependence * HSIC(features of g, of f): g moves, and follows f as far as it can.
    2. Cross-entropy of f + independence * HSIC(features of f, of g): f moves, away from what g sees.

    g is biased by what it can see: with kernels of one pixel it knows colours and no shapes. Features are those in
    front of the classifiers. Estimator, radius and weights of HSIC, optimiser and schedule are the published ones.

    The rest is this project's choice: each update holds the other network's features constant; f's features are
    computed once a batch, as f does not move in between, and g's again after its update; both networks are in training
    mode throughout. On data other than Biased MNIST f is the network that is usual there, and g a small one with
    kernels of one pixel; on photographs g sees 23 pixels across.
    """

    takes_features = False
    name = "rebias"
    summary = "ReBias: features independent (HSIC) of those of a network that sees single pixels"
    gives = ("model",)
    read_outs = ("model", "biased")
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network that is to be unbiased (f)"),
        biased=Setting("rebias_cnn_1x1", "network that is biased by how little it sees (g)", choices=_NEARSIGHTED),
        independence=Setting(1.0, "weight of HSIC in f's loss (lambda_f)", low=0, search=("log", 0.1, 10.0)),
        dependence=Setting(1.0, "weight of HSIC, to grow, in g's loss (lambda_g)", low=0, search=("log", 0.1, 10.0)),
        radius=Setting(1.0, "radius (sigma) of HSIC's Gaussian kernels", low=1e-3, search=("log", 0.1, 10.0)),
        epochs=Setting(80, "passes over the training images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch; HSIC needs four", low=4, quick=64),
        weight_decay=Setting(1e-4, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
        decay_every=Setting(20, "epochs between two multiplications of the learning rate by `decay`", low=1),
        decay=Setting(0.1, "factor on the learning rate", low=0, high=1),
    )

    def check(self, settings: Settings) -> None:
        own = settings[self.name]
        if own["network"] == own["biased"]:
            raise UserError(
                f"{self.name}.network and {self.name}.biased are both {own['network']}: a network that sees no more "
                f"than the biased one cannot become independent of it; choose a larger {self.name}.network"
            )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own = ctx.own
        spec, debiased = new_classifier(ctx, own["network"], self.name)
        _, biased = new_classifier(ctx, own["biased"], f"{self.name} biased")
        model = nn.ModuleDict({"biased": biased, "debiased": debiased})
        kept: list[Tensor] = []  # f's features of a batch, from the first update for the second

        def follow(batch: Batch) -> tuple[Tensor, Logs]:
            seen = debiased.features(batch.images)
            kept[:] = [seen]
            features = biased.features(batch.images)
            logits = biased.head(features)
            plain = cross_entropy(logits, batch.target)
            logs = {"train/biased_accuracy": hit_rate(logits, batch.target)}
            return plain - own["dependence"] * dependence(features, seen.detach(), own["radius"]), logs

        def part(batch: Batch) -> tuple[Tensor, Logs]:
            features = kept.pop()
            with torch.no_grad():
                known = biased.features(batch.images)
            logits = debiased.head(features)
            plain, hsic = cross_entropy(logits, batch.target), dependence(features, known, own["radius"])
            logs = {"train/accuracy": hit_rate(logits, batch.target), "train/cross_entropy": plain, "train/hsic": hsic}
            return plain + own["independence"] * hsic, logs

        batches, rounds = training_batches(ctx, own)
        fitted = fit(
            Job(
                model=model,
                updates=[
                    Update(follow, optimiser_for(ctx, biased.parameters())),
                    Update(part, optimiser_for(ctx, debiased.parameters())),
                ],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"model": debiased(images), "biased": biased(images)},
                main="model",
                schedule=step_decay(own["decay_every"], own["decay"]),
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        artifact = TrainedModel(spec, states_of(fitted, "debiased"), read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}
