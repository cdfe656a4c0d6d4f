"""Suspects are images whose look, as the deep branch of DeNetDM sees it, is that of another class."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.gce import doubt, log_odds
from debias.models.branches import build_branches
from debias.models.registry import Classifier, seeded
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import optimiser_for, training_settings
from debias.stages.common.scores import mined_scores, mining_figures, pseudo_figures, pseudo_labels
from debias.training.artifacts import TrainedBranches, take
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage

THRESHOLD = 0.5


class MineDepth(Stage):
    """A fresh linear head learns the targets from the frozen deep branch; the score is 1 - p(target).

    Stage 1's own head is worse: the deep branch is read there through a classifier that it shares. What the fresh head
    predicts is a pseudo bias label: the class that the image looks like by its bias.
    """

    name = "mine_depth"
    summary = "suspects and pseudo bias labels: a fresh linear head on DeNetDM's deep branch"
    needs = ("branches",)
    gives = ("conflict_score", "bias", "shortcut", HELD_OUT_BIAS)
    read_outs = ("bias_head",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        epochs=Setting(3, "passes over the training images", low=1),
        batch_size=Setting(256, "images in a training batch", low=1),
        learning_rate=Setting(1e-2, "learning rate", low=0, search=("log", 1e-3, 1e-1)),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        task, train = ctx.task, ctx.train
        trained = take(inputs, "branches", TrainedBranches)
        branches = build_branches(trained.spec)
        branches.load_state_dict(trained.states["last"])
        branches.to(ctx.device).requires_grad_(False).eval()
        width = branches.head.in_features
        head = seeded(lambda: nn.Linear(width, task.n_targets), derive(ctx.seed, self.name, "weights")).to(ctx.device)
        known = map_images(branches.deep, task, train).clone()
        batches, rounds = training_batches(ctx, ctx.own)

        def loss(batch: Batch) -> Tensor:
            return cross_entropy(head(known.index_select(0, batch.index)), batch.target)

        fitted = fit(
            Job(
                model=head,
                updates=[Update(loss, optimiser_for(ctx, head.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"bias_head": head(branches.deep(images))},
                main="bias_head",
            ),
            ctx,
        )
        with torch.no_grad():
            said = head(known)
        score, ranks = doubt(said, train.target), log_odds(said, train.target)
        spec = {"backbone": trained.spec["deep"], "shape": list(task.image_shape), "classes": task.n_targets}
        shortcut = Classifier(branches.deep, task.n_targets).to(ctx.device)
        shortcut.head.load_state_dict(head.state_dict())
        bias, made = pseudo_labels(shortcut, spec, "bias_head", torch.softmax(said, dim=1), ctx)
        figures = mining_figures(score, THRESHOLD, task, ranks), pseudo_figures(bias.label, task)
        conflict_score = mined_scores(ctx, score, THRESHOLD, ranks)
        return {"conflict_score": conflict_score, **made, "report": fitted.report().with_figures(*figures)}
