"""Methods that want a bias label per training image, true or pseudo: GroupDRO and bias-balanced training."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.group import group_dro, group_losses
from debias.losses.reweight import bias_balanced, log_prior
from debias.settings import Setting
from debias.stages.common.baselines import SECOND_DIVISION, network_of
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    fit_classifier,
    model_artifact,
    network_setting,
    new_classifier,
    training_settings,
)
from debias.stages.common.scores import groups_for
from debias.training.artifacts import BiasLabels, take
from debias.training.stage import Artifact, Context, Stage


class GroupDROStage(Stage):
    """Minimise the loss of groups weighted by how badly they do (Sagawa et al., ICLR 2020)."""

    name = "group_dro"
    summary = "GroupDRO: minimise the loss of the groups that do worst (needs bias labels, true or pseudo)"
    needs = ("bias",)
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        second_division=SECOND_DIVISION,
        eta=Setting(0.01, "step size of the group weights", low=0, search=("log", 1e-3, 1e-1)),
        draw=Setting(
            "images",
            "what a batch is drawn from: images, each once an epoch; or groups, each as often as any other, as the "
            "paper's algorithm has it",
            choices=("images", "groups"),
        ),
        epochs=Setting(100, "passes over the training images", low=1, quick=8),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        bias = take(inputs, "bias", BiasLabels)
        labels, n_biases = groups_for(bias, ctx.train, self.name), bias.n_biases
        n_groups = ctx.task.n_targets * n_biases
        spec, model = new_classifier(ctx, network_of(ctx), self.name)
        q = torch.full((n_groups,), 1 / n_groups, device=ctx.device)

        def loss(batch: Batch) -> Tensor:
            each = cross_entropy(model(batch.inputs), batch.target, reduction="none")
            group = batch.target * n_biases + labels.index_select(0, batch.index)
            total, weights = group_dro(q, *group_losses(each, group, n_groups), eta=ctx.own["eta"])
            q.copy_(weights.detach())
            return total

        training = None
        if ctx.own["draw"] == "groups":
            group = ctx.train.target * n_biases + labels
            counts = torch.bincount(group, minlength=n_groups)
            training = training_batches(ctx, ctx.own, weights=1 / counts.index_select(0, group))
        fitted = fit_classifier(ctx, model, loss, training=training, tensors={"q": q})
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}


class BiasBalanced(Stage):
    """CE(logits + log p(target | bias)): the prior that the bias carries is not learnt (Hong & Yang, NeurIPS 2021)."""

    name = "bias_balanced"
    summary = "bias-balanced cross-entropy (needs bias labels, true or pseudo)"
    needs = ("bias",)
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        epochs=Setting(20, "passes over the training images", low=1, quick=6),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        bias, train = take(inputs, "bias", BiasLabels), ctx.train
        labels = groups_for(bias, train, self.name)
        prior = log_prior(train.target, labels, ctx.task.n_targets, bias.n_biases)
        spec, model = new_classifier(ctx, ctx.own["network"], self.name)

        def loss(batch: Batch) -> Tensor:
            return bias_balanced(model(batch.inputs), batch.target, labels.index_select(0, batch.index), prior)

        fitted = fit_classifier(ctx, model, loss)
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}
