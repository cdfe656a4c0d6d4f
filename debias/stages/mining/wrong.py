"""Suspects are the training images that a biased network gets wrong (DCWP, JTT)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.gce import gce_lff, log_odds
from debias.models.registry import Classifier
from debias.settings import Setting
from debias.stages.common.classifier import (
    difficulty,
    fit_classifier,
    network_setting,
    new_classifier,
    stored_classifier,
    training_settings,
)
from debias.stages.common.scores import mined_scores, mining_figures, pseudo_figures, pseudo_labels, report_of
from debias.training.artifacts import TrainedModel, take
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.stage import Artifact, Context, Stage

THRESHOLD = 0.5


class MineWrong(Stage):
    """Suspects are what the model of the stage before gets wrong. No network is trained for it."""

    name = "mine_wrong"
    summary = "suspects: training images the trained model gets wrong"
    needs = ("model",)
    gives = ("conflict_score",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = {}

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        logits = logits_of(stored_classifier(ctx, take(inputs, "model", TrainedModel)), ctx)
        score, ranks = difficulty(logits, ctx.train.target), log_odds(logits, ctx.train.target)
        report = report_of(mining_figures(score, THRESHOLD, ctx.task, ranks))
        return {"conflict_score": mined_scores(ctx, score, THRESHOLD, ranks), "report": report}


class MineGCE(Stage):
    """Suspects are what a network biased on purpose by generalised cross-entropy gets wrong (LfF, DCWP).

    What it takes an image for is a pseudo bias label: the class that the image looks like by its bias.
    """

    name = "mine_gce"
    summary = "suspects and pseudo bias labels: what a network trained by GCE gets wrong, and takes images for"
    gives = ("conflict_score", "bias", "shortcut", HELD_OUT_BIAS)
    read_outs = ("biased",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network that is biased on purpose"),
        q=Setting(
            0.7,
            "exponent of the generalised cross-entropy; 0: plain cross-entropy",
            low=0,
            high=1,
            search=("uniform", 0.3, 0.9),
        ),
        epochs=Setting(9, "passes over the training images", low=1, quick=2),
        steps=Setting(
            0,
            "training steps; 0: train for `epochs` instead",
            low=0,
            quick=0,
        ),
        evaluate_every=Setting(200, "steps between two evaluations, when `steps` is set", low=1),
        batch_size=Setting(256, "images in a training batch", low=1),
        optimiser=Setting(
            "sgd",
            "optimiser of this stage; None: the run's",
            choices=("adam", "adamw", "sgd"),
            optional=True,
        ),
        learning_rate=Setting(
            0.1,
            "learning rate",
            low=0,
            search=("log", 1e-3, 0.3),
        ),
        weight_decay=Setting(1e-4, "weight decay", low=0),
        decay_rounds=Setting(
            3,
            "rounds between two reductions of the learning rate to a tenth",
            low=1,
        ),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own = ctx.own
        spec, model = new_classifier(ctx, own["network"], self.name)

        def loss(batch: Batch) -> Tensor:
            logits = model(batch.inputs)
            return gce_lff(logits, batch.target, own["q"]) if own["q"] else cross_entropy(logits, batch.target)

        fitted = fit_classifier(
            ctx, model, loss, read_out="biased", schedule=lambda done: 0.1 ** (done // own["decay_rounds"])
        )
        logits = logits_of(model, ctx)
        score, ranks = difficulty(logits, ctx.train.target), log_odds(logits, ctx.train.target)
        bias, made = pseudo_labels(model, spec, "biased", logits, ctx)
        figures = mining_figures(score, THRESHOLD, ctx.task, ranks), pseudo_figures(bias.label, ctx.task)
        conflict_score = mined_scores(ctx, score, THRESHOLD, ranks)
        return {"conflict_score": conflict_score, **made, "report": fitted.report().with_figures(*figures)}


def logits_of(model: Classifier, ctx: Context) -> Tensor:
    """Logits of every training image, [N, classes], without augmentation and in evaluation mode."""
    return map_images(model.eval(), ctx.task, ctx.train).clone()
