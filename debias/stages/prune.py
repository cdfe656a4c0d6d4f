"""DCWP, pruning: learn which weights of a trained network to keep (CVPR 2023, section 3)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.models.gates import add_gates, fold_mask
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    optimiser_for,
    stored_classifier,
    training_settings,
)
from debias.stages.common.contrastive import CONTRASTIVE, ContrastiveTerm
from debias.stages.common.scores import flags_for
from debias.training.artifacts import ConflictScore, Mask, TrainedModel, take
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage

PRUNING_BATCH = Setting(256, "images in a training batch", low=1)


class Prune(Stage):
    """CE + contrastive_weight * L_con + sparsity_weight * sum of gate logits, over gates alone.

    Suspects are drawn `upweight` times as often. Weights are frozen; normalisation statistics move, as in the paper.
    """

    name = "prune"
    # Gates without a gradient of their own are moved by Adam's epsilon alone.
    exact = True
    summary = "DCWP: learn which weights to keep, on batches full of suspects"
    needs = ("model", "conflict_score")
    gives = ("model", "mask")
    read_outs = ("pruned",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        sampling=Setting(
            "textbook",
            "gates are kept with probability sigmoid(logit), or as in the published code sigmoid(sigmoid(logit))",
            choices=("textbook", "reference"),
        ),
        upweight=Setting(80.0, "how many times as often suspects are drawn", low=0, search=("log", 5, 100)),
        sparsity_weight=Setting(
            1e-8,
            "weight of the sum of gate logits",
            low=0,
            search=("log", 1e-10, 1e-6),
        ),
        **CONTRASTIVE,
        epochs=Setting(9, "passes over the training images", low=1, quick=2),
        steps=Setting(2000, "training steps; 0: train for `epochs` instead", low=0, quick=0),
        batch_size=PRUNING_BATCH,
        optimiser=Setting("adam", "optimiser of the gates", choices=("adam", "adamw", "sgd"), optional=True),
        learning_rate=Setting(1e-2, "learning rate of the gates", low=0, search=("log", 1e-3, 1e-1)),
        beta2=Setting(0.999, "Adam's second decay rate", low=0, high=0.999999),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train = ctx.own, ctx.train
        flags = flags_for(take(inputs, "conflict_score", ConflictScore), train, ctx).float()
        batches, rounds = training_batches(ctx, own, weights=1 + (own["upweight"] - 1) * flags)
        source = take(inputs, "model", TrainedModel)
        model = stored_classifier(ctx, source)
        gates = add_gates(model, own["sampling"])
        contrastive, sparsity = ContrastiveTerm(ctx, flags), own["sparsity_weight"]

        def loss(batch: Batch) -> Tensor:
            assert ctx.generator is not None
            gates.sample(ctx.generator)
            features = model.features(batch.inputs)
            total = cross_entropy(model.head(features), batch.target) + sparsity * gates.logit_sum()
            return contrastive.added_to(total, features, batch)

        def read_outs(images: Tensor) -> dict[str, Tensor]:
            gates.hard()
            return {"pruned": model(images)}

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, gates.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=read_outs,
                main="pruned",
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        removed, layers = gates.sparsity()
        report = replace(
            fitted.report().with_figures({"sparsity/all/last": 100.0 * removed}),
            sparsity={name: 100.0 * share for name, share in layers.items()},
        )
        mask = {name: kept.cpu() for name, kept in gates.mask().items()}
        plain = plain_state(model.state_dict())
        fold_mask(model, {name: torch.ones_like(kept).to(ctx.device) for name, kept in mask.items()})
        states = {"last": {name: plain[name].detach().cpu().clone() for name in model.state_dict()}}
        artifact = replace(source, states=states, read_out="model")
        return {"model": artifact, "mask": Mask(mask), "report": report}


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A gated network's tensors under their plain names, gates left out."""
    return {
        name.replace("parametrizations.", "").replace(".original", ""): value
        for name, value in state.items()
        if not (".parametrizations." in f".{name}" and not name.endswith(".original"))
    }
