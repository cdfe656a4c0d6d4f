"""Logit correction: a biased network's predictions are the prior that another one learns around (ICLR 2023)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from debias.data.batches import Batch
from debias.losses.gce import gce
from debias.losses.logit_correction import (
    class_means,
    corrected_cross_entropy,
    minority_partners,
    mixing_share,
    moved_prior,
    sigmoid_ramp,
)
from debias.settings import Setting
from debias.stages.common.baselines import SECOND_DIVISION, network_of
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


class LC(Stage):
    """GCE for the biased network; for the other cross-entropy of logits + log p(target | what the biased one sees).

    The prior is a moving average of the biased network's mean prediction for each class. With `mixup` each image is
    mixed with one of its class in the batch that the biased network gets wrong, the more of it the longer it trains.
    """

    name = "lc"
    summary = "LC: correct logits by what a biased network predicts, and mix images of both kinds"
    gives = ("model",)
    read_outs = ("model", "biased")
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network of both"),
        second_division=SECOND_DIVISION,
        q=Setting(0.7, "exponent of the generalised cross-entropy", low=0.01, high=1, search=("uniform", 0.3, 0.9)),
        biased_rate=Setting(0.1, "learning rate of the biased network, as a share of the other's", low=0),
        momentum=Setting(0.9, "share of the old value in the prior's running average; 0: of each batch", low=0, high=1),
        mixup=Setting(True, "mix images with those of their class that the biased network gets wrong"),
        tau=Setting(0.5, "at the end the image's own share of a mixture is from 1 - 2 tau to 1 - tau", low=0, high=0.5),
        ramp_epochs=Setting(50, "epochs in which tau rises to that", low=1),
        epochs=Setting(100, "passes over the training images", low=1, quick=8),
        batch_size=Setting(256, "images in a training batch", low=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, classes = ctx.own, ctx.task.n_targets
        spec, debiased = new_classifier(ctx, network_of(ctx), self.name)
        _, biased = new_classifier(ctx, network_of(ctx), f"{self.name} biased")
        model = nn.ModuleDict({"biased": biased, "debiased": debiased})
        batches, rounds = training_batches(ctx, own)
        ramp = own["ramp_epochs"] * len(batches)
        prior = torch.full((classes, classes), 1 / classes, device=ctx.device)
        steps = torch.zeros((), device=ctx.device)

        def mixed(batch: Batch, seen: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
            """Images and rows of the prior, both mixed; draws places and shares."""
            count, device = len(seen), seen.device
            draws = torch.rand((count, count + 1), generator=ctx.generator, device=device)
            partner = minority_partners(batch.target, seen != batch.target, draws[:, :count])
            own_share = mixing_share(draws[:, count], own["tau"] * sigmoid_ramp(steps / ramp))
            images = torch.lerp(batch.images[partner], batch.images, own_share.view(-1, 1, 1, 1))
            return images, torch.lerp(share[partner], share, own_share.unsqueeze(1))

        def loss(batch: Batch) -> Tensor:
            said = biased(batch.images)
            probability = torch.softmax(said.detach(), dim=1)
            prior.copy_(moved_prior(prior, *class_means(probability, batch.target), own["momentum"]))
            seen = probability.argmax(1)
            images, share = batch.images, prior.t()[seen]
            if own["mixup"]:
                images, share = mixed(batch, seen, share)
            steps.add_(1)
            return gce(said, batch.target, own["q"]) + corrected_cross_entropy(debiased(images), batch.target, share)

        optimiser = optimiser_for(ctx, debiased.parameters())
        rate = own["learning_rate"] * own["biased_rate"]
        optimiser.add_param_group({"params": list(biased.parameters()), "lr": rate})
        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser)],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"model": debiased(images), "biased": biased(images)},
                main="model",
                tensors={"prior": prior, "steps": steps},
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        artifact = TrainedModel(spec, states_of(fitted, "debiased"), read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}
