"""SelecMix: each image is mixed with one that contradicts it, chosen by features of the bias (NeurIPS 2022)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.selective_mixing import contradicting_partners, generalised_contrastive
from debias.losses.unit import unit_rows
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    network_setting,
    new_classifier,
    optimiser_for,
    training_settings,
)
from debias.stages.common.pairs import states_of
from debias.training.artifacts import TrainedModel
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage


class SelecMix(Stage):
    """Cross-entropy on mixtures alone, and beside it a contrastive loss for the network that chooses what is mixed.

    For each batch a coin says what its images are mixed with: those of their class that look least alike to the
    auxiliary network, or those of other classes that look most alike. An image has a share of .5 * Beta(1, 1) in its
    mixture, which has the label of the other. No bias labels are read.

    The rest is this project's choice: both networks are trained side by side from the first batch, by one optimiser;
    the auxiliary one is of the same kind, without a projection behind its features; each image has a share of its own;
    batch size, learning rate and epochs are those of LC.
    """

    name = "selecmix"
    summary = "SelecMix: mix images with those that contradict the bias, found by an auxiliary contrastive network"
    gives = ("model",)
    read_outs = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network of both"),
        q=Setting(0.7, "exponent of the weights in the contrastive loss", low=0, high=1, search=("uniform", 0.3, 0.9)),
        temperature=Setting(0.2, "temperature of the contrastive loss", low=0.01, search=("log", 0.05, 1.0)),
        own_share=Setting(0.5, "largest share that an image has in its mixture; 0: its partner alone", low=0, high=1),
        epochs=Setting(100, "passes over the training images", low=1, quick=8),
        batch_size=Setting(256, "images in a training batch", low=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own = ctx.own
        spec, classifier = new_classifier(ctx, own["network"], self.name)
        auxiliary = new_classifier(ctx, own["network"], f"{self.name} auxiliary")[1].backbone
        model = nn.ModuleDict({"classifier": classifier, "auxiliary": auxiliary})

        def loss(batch: Batch) -> Tensor:
            features = unit_rows(auxiliary(batch.images))
            cosines = features @ features.T
            draws = torch.rand(len(cosines) + 1, generator=ctx.generator, device=ctx.device)
            partner = contradicting_partners(cosines.detach(), batch.target, draws[-1] < 0.5)
            # Beta(1, 1) is the uniform distribution.
            share = own["own_share"] * draws[:-1].view(-1, 1, 1, 1)
            images = torch.lerp(batch.images[partner], batch.images, share)
            mixed = cross_entropy(classifier(images), batch.target[partner])
            return mixed + generalised_contrastive(cosines, batch.target, own["temperature"], own["q"])

        batches, rounds = training_batches(ctx, own)
        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"model": classifier(images)},
                main="model",
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        artifact = TrainedModel(spec, states_of(fitted, "classifier"), read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}
