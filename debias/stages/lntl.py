"""Learning Not to Learn: a classifier whose features do not tell the colour (Kim et al., CVPR 2019)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.data.generated.jitter import BINS, bias_map
from debias.errors import UserError
from debias.losses.lntl import bias_accuracy, bias_loss, negative_entropy, reverse_gradient
from debias.models.lntl import ColourPredictors, ConvNet
from debias.models.registry import Classifier, seeded
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    hit_rate,
    new_classifier,
    optimiser_for,
    step_decay,
    stored_classifier,
    training_settings,
)
from debias.training.artifacts import TrainedModel, take
from debias.training.job import Job, Logs, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage

NETWORK = "convnet"


class LNTL(Stage):
    """Two updates on each batch, by one optimiser over the classifier g(f(x)) and the colour predictors h.

    1. Cross-entropy + entropy_weight * negative entropy of h(f(x)): f and g move, h stays.
    2. Cross-entropy of h(f(x)) with the colours of the image's own pixels, its gradient reversed on the way to f: h
       learns to tell the colour and f to hide it. The layers of g have no part in it.

    A `model` of an earlier stage, as in [pretrain, lntl], is what f and g start from. No bias labels are read: what the
    predictors are taught are bins of the image's pixels.
    """

    takes_features = False
    name = "lntl"
    summary = "Learning Not to Learn: unlearn what predictors of the colour could use"
    gives = ("model",)
    read_outs = ("model",)
    uses = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        entropy_weight=Setting(0.01, "weight of the predictors' negative entropy", low=0, search=("log", 1e-3, 1)),
        reversal=Setting(
            0.1, "factor of the reversed gradient of the predictors' loss", low=0, search=("log", 1e-2, 1)
        ),
        idle_layers=Setting(
            "rest",
            "layers without a gradient in the second update rest in it, or move by momentum and weight decay as in the "
            "published code under its torch",
            choices=("rest", "move"),
        ),
        epochs=Setting(100, "passes over the training images", low=1, quick=4),
        batch_size=Setting(128, "images in a training batch", low=1),
        optimiser=Setting("sgd", "optimiser of this stage", choices=("adam", "adamw", "sgd"), optional=True),
        momentum=Setting(0.9, "momentum of sgd; both updates share it", low=0, high=1),
        learning_rate=Setting(1e-2, "learning rate", low=0, search=("log", 1e-4, 1e-1)),
        weight_decay=Setting(5e-4, "weight decay, in both updates", low=0, search=("log", 1e-5, 1e-2)),
        decay_every=Setting(40, "epochs between two multiplications of the learning rate by `decay`", low=1),
        decay=Setting(0.1, "factor on the learning rate", low=0, high=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own = ctx.own
        spec, classifier = self._classifier(inputs, ctx)
        backbone = classifier.backbone
        assert isinstance(backbone, ConvNet)
        channels = ctx.task.image_shape[0]
        predictors = seeded(
            lambda: ColourPredictors(backbone.maps_width, channels, BINS), derive(ctx.seed, self.name, "predictors")
        ).to(ctx.device)
        model = nn.ModuleDict({"classifier": classifier, "predictors": predictors})
        bins = _bins(ctx)
        idle = [backbone.conv3, backbone.conv4, classifier.head] if own["idle_layers"] == "move" else []

        def learn(batch: Batch) -> tuple[Tensor, Logs]:
            predictors.requires_grad_(False)
            maps = backbone.maps(batch.images)
            logits = classifier.head(backbone.after_maps(maps))
            unsure = negative_entropy(predictors(maps))
            predictors.requires_grad_(True)
            total = cross_entropy(logits, batch.target) + own["entropy_weight"] * unsure
            return total, {"train/accuracy": hit_rate(logits, batch.target), "train/entropy": -unsure}

        def unlearn(batch: Batch) -> tuple[Tensor, Logs]:
            labels = bins.index_select(0, batch.index)
            logits = predictors(reverse_gradient(backbone.maps(batch.images), own["reversal"]))
            total = bias_loss(logits, labels)
            for layer in idle:
                # A gradient of zero, where without it there is none and the optimiser passes the layer over.
                total = total + 0 * torch.stack([weight.sum() for weight in layer.parameters()]).sum()
            return total, {"train/bias_accuracy": bias_accuracy(logits.detach(), labels)}

        batches, rounds = training_batches(ctx, own)
        optimiser = optimiser_for(ctx, model.parameters())
        fitted = fit(
            Job(
                model=model,
                updates=[Update(learn, optimiser), Update(unlearn, optimiser)],
                batches=batches,
                epochs=rounds,
                read_outs=lambda images: {"model": classifier(images)},
                main="model",
                schedule=step_decay(own["decay_every"], own["decay"]),
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        states = {
            selection: {
                name.removeprefix("classifier."): value
                for name, value in state.items()
                if name.startswith("classifier.")
            }
            for selection, state in fitted.states().items()
        }
        artifact = TrainedModel(spec, states, read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}

    def _classifier(self, inputs: Mapping[str, Artifact], ctx: Context) -> tuple[dict[str, Any], Classifier]:
        """The classifier to start from, and its spec: fresh, or that of an earlier stage."""
        if "model" not in inputs:
            return new_classifier(ctx, NETWORK, self.name)
        earlier = take(inputs, "model", TrainedModel)
        if earlier.spec["backbone"] != NETWORK:
            raise UserError(
                f"lntl continues with the network of the stage before it, which is {earlier.spec['backbone']}; "
                f"it can be {NETWORK} alone, as with pretrain.network={NETWORK}"
            )
        return dict(earlier.spec), stored_classifier(ctx, earlier)


def _bins(ctx: Context) -> Tensor:
    """The bias map of every training image, uint8 [N, C, H / 2, W / 2]."""
    images = ctx.train.images
    if not isinstance(images, Tensor) or ctx.task.augment is not None:
        raise UserError(
            f"lntl reads colours off the pixels of training images: {ctx.task.name} must be in memory and "
            "is not to be augmented (augment=none, streaming=never)"
        )
    return bias_map(images)
