"""Suspects are images a confidence-trained network finds hard in all its training (DCWP on Corrupted CIFAR-10)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from debias.data.batches import Batch
from debias.losses.gce import confident_cross_entropy, doubt
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    network_setting,
    new_classifier,
    optimiser_for,
    training_settings,
)
from debias.stages.common.scores import mined_scores, mining_figures
from debias.training.evaluation import in_order
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage


class MineEnsemble(Stage):
    """The score is 1 - p(target), averaged over all rounds of a network that learns only what it is confident of."""

    name = "mine_ensemble"
    summary = "suspects: training images a confidence-trained network finds hard throughout its training"
    gives = ("conflict_score",)
    read_outs = ("biased",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network that is biased on purpose"),
        eta=Setting(0.05, "images with p(target) below this are not learnt from", low=0, high=1),
        tau=Setting(0.8, "average difficulty above which an image is a suspect", low=0, high=1),
        epochs=Setting(20, "passes over the training images", low=1, quick=2),
        batch_size=Setting(256, "images in a training batch", low=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train = ctx.own, ctx.train
        _, model = new_classifier(ctx, own["network"], self.name)
        batches, rounds = training_batches(ctx, own)
        total = torch.zeros(len(train), device=ctx.device)

        def loss(batch: Batch) -> Tensor:
            return confident_cross_entropy(model(batch.inputs), batch.target, own["eta"])

        @torch.no_grad()
        def score_all() -> None:
            model.eval()
            parts = []
            for batch in in_order(ctx.task, train).epoch():
                parts.append(doubt(model(batch.inputs), batch.target))
            total.add_(torch.cat(parts))

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"biased": model(images)},
                main="biased",
                tensors={"total": total},
                after_epoch=score_all,
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        score = total / rounds
        report = fitted.report().with_figures(mining_figures(score, own["tau"], ctx.task))
        return {"conflict_score": mined_scores(ctx, score, own["tau"]), "report": report}
