"""Train a network, pruned or not, on batches in which suspects come more often (DCWP's last stage, JTT's second)."""

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.models.gates import apply_mask, fold_mask
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    fit_classifier,
    initial_classifier,
    model_artifact,
    stored_classifier,
    training_settings,
)
from debias.stages.common.contrastive import CONTRASTIVE, ContrastiveTerm
from debias.stages.common.scores import flags_for
from debias.stages.prune import PRUNING_BATCH
from debias.training.artifacts import ConflictScore, Mask, TrainedModel, take
from debias.training.stage import Artifact, Context, Stage

# DCWP's scripts, by the share of conflicting images.
UPWEIGHT = {0.005: 80.0, 0.01: 50.0, 0.02: 30.0, 0.05: 10.0}


def upweight_for(skew: float) -> float:
    """DCWP's up-weight for the share of conflicting images that is nearest, as a ratio."""
    return UPWEIGHT[min(UPWEIGHT, key=lambda known: abs(math.log(known / max(skew, 1e-9))))]


class Finetune(Stage):
    """CE + contrastive_weight * L_con with suspects drawn `upweight` times as often; pruned weights stay zero."""

    name = "finetune"
    summary = "train on with suspects up-weighted, within the mask when there is one"
    needs = ("model", "conflict_score")
    uses = ("mask",)
    gives = ("model",)
    read_outs = ("target",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        start=Setting(
            "trained",
            "weights to start from: the trained ones, or the initial ones",
            choices=("trained", "initial"),
        ),
        upweight=Setting(
            None,
            "how many times as often suspects are drawn; None: by the nearest skew, 80, 50, 30, 10 for .005, .01, .02, "
            ".05 (DCWP)",
            low=0,
            optional=True,
            kind=float,
            search=("log", 5, 100),
        ),
        **CONTRASTIVE,
        epochs=Setting(5, "passes over the training images", low=1, quick=2),
        steps=Setting(
            1000,
            "training steps; 0: train for `epochs` instead",
            low=0,
            quick=0,
        ),
        evaluate_every=Setting(100, "steps between two evaluations, when `steps` is set", low=1),
        batch_size=PRUNING_BATCH,
        learning_rate=Setting(
            1e-3,
            "learning rate",
            low=0,
            search=("log", 1e-4, 1e-2),
        ),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train, source = ctx.own, ctx.train, take(inputs, "model", TrainedModel)
        flags = flags_for(take(inputs, "conflict_score", ConflictScore), train, ctx).float()
        upweight = upweight_for(ctx.settings["skew"]) if own["upweight"] is None else own["upweight"]
        training = training_batches(ctx, own, weights=1 + (upweight - 1) * flags)
        if own["start"] == "initial":
            model = initial_classifier(ctx, source.spec, source.initial)
        else:
            model = stored_classifier(ctx, source)
        if "mask" in inputs:
            mask = {name: kept.to(ctx.device) for name, kept in take(inputs, "mask", Mask).kept.items()}
            fold_mask(model, mask)
            apply_mask(model, mask)
        contrastive = ContrastiveTerm(ctx, flags)

        def loss(batch: Batch) -> Tensor:
            features = model.features(batch.inputs)
            total = cross_entropy(model.head(features), batch.target)
            return contrastive.added_to(total, features, batch)

        fitted = fit_classifier(ctx, model, loss, read_out="target", training=training)
        artifact = model_artifact(source.spec, fitted, "target", source.initial)
        return {"model": artifact, "report": fitted.report()}
