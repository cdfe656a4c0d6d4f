"""Empirical risk minimisation: the baseline of every paper, and the first stage of the pruning methods."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.settings import Setting
from debias.stages.common.baselines import SECOND_DIVISION, network_of
from debias.stages.common.budget import STEPS
from debias.stages.common.classifier import (
    fit_classifier,
    hit_rate,
    model_artifact,
    network_setting,
    new_classifier,
    step_decay,
    training_settings,
)
from debias.training.job import Logs
from debias.training.stage import Artifact, Context, Stage


class Pretrain(Stage):
    """Cross-entropy on uniformly drawn images (ERM)."""

    name = "pretrain"
    summary = "train a classifier by cross-entropy alone (ERM)"
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        second_division=SECOND_DIVISION,
        epochs=Setting(100, "passes over the training images", low=1, quick=14),
        steps=Setting(0, STEPS.help, low=0, quick=0),
        decay_every=Setting(0, "epochs between two multiplications of the learning rate by `decay`; 0: never", low=0),
        decay=Setting(0.1, "factor on the learning rate", low=0, high=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        spec, model = new_classifier(ctx, network_of(ctx), self.name)

        def loss(batch: Batch) -> tuple[Tensor, Logs]:
            logits = model(batch.inputs)
            return cross_entropy(logits, batch.target), {"train/accuracy": hit_rate(logits, batch.target)}

        every = ctx.own["decay_every"]
        schedule = step_decay(every, ctx.own["decay"]) if every else None
        fitted = fit_classifier(ctx, model, loss, schedule=schedule)
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}
