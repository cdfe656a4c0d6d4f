"""EnD: cross-entropy and two terms that keep the bias out of the features (Tartaglione et al., CVPR 2021)."""

from collections.abc import Mapping
from typing import ClassVar, get_args

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.end import Pairs, entangle_disentangle
from debias.settings import Setting
from debias.stages.common.classifier import (
    fit_classifier,
    hit_rate,
    model_artifact,
    network_setting,
    new_classifier,
    step_decay,
    training_settings,
)
from debias.stages.common.scores import groups_for
from debias.training.artifacts import BiasLabels, take
from debias.training.job import Logs
from debias.training.stage import Artifact, Context, Stage


class EnD(Stage):
    """CE + alpha * R_perp + beta * R_par on the features in front of the classifier, of any network.

    With alpha = beta = 0 the same network, schedule and data order under cross-entropy alone: the baseline of EnD.
    """

    name = "end"
    summary = "EnD: pull features of one bias apart and those of one target together (needs bias labels)"
    needs = ("bias",)
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        alpha=Setting(
            0.1,
            "weight of the term that pulls images of one bias apart",
            low=0,
            search=("uniform", 0.0, 1.0),
        ),
        beta=Setting(
            0.1,
            "weight of the term that pulls images of one target and other biases together",
            low=0,
            search=("uniform", 0.0, 1.0),
        ),
        pairs=Setting("all", "which pairs the second term takes: all, or half as published", choices=get_args(Pairs)),
        epochs=Setting(80, "passes over the training images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch", low=1, quick=64),
        weight_decay=Setting(1e-4, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
        decay_every=Setting(20, "epochs between two multiplications of the learning rate by `decay`", low=1),
        decay=Setting(0.1, "factor on the learning rate", low=0, high=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, bias = ctx.own, take(inputs, "bias", BiasLabels)
        labels, n_biases = groups_for(bias, ctx.train, self.name), bias.n_biases
        spec, model = new_classifier(ctx, own["network"], self.name)
        alpha, beta = own["alpha"], own["beta"]

        def loss(batch: Batch) -> tuple[Tensor, Logs]:
            features = model.features(batch.inputs)
            logits = model.head(features)
            total = plain = cross_entropy(logits, batch.target)
            logs = {"train/accuracy": hit_rate(logits, batch.target), "train/cross_entropy": plain}
            if alpha or beta:
                known = labels.index_select(0, batch.index)
                apart, together = entangle_disentangle(
                    features, batch.target, known, ctx.task.n_targets, n_biases, own["pairs"]
                )
                total = plain + alpha * apart + beta * together
                logs |= {"train/r_perp": apart, "train/r_par": together}
            return total, logs

        fitted = fit_classifier(ctx, model, loss, schedule=step_decay(own["decay_every"], own["decay"]))
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}
