"""Empirical risk minimisation: the baseline of every paper, and the first stage of the pruning methods."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches import Batch
from settings import Setting, on_sources
from stages.common.budget import STEPS
from stages.common.classifier import (
    CIFAR,
    PHOTOGRAPHS,
    fit_classifier,
    hit_rate,
    model_artifact,
    network_setting,
    new_classifier,
    on_images,
    step_decay,
    training_settings,
)
from training.job import Logs
from training.optimisers import OPTIMISERS
from training.stage import Artifact, Context, Stage


class Pretrain(Stage):
    """Cross-entropy on uniformly drawn images (ERM)."""

    name = "pretrain"
    summary = "train a classifier by cross-entropy alone (ERM)"
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(dcwp="cnn", mrm="cnn"),
        epochs=Setting(100, "passes over the training images", low=1, quick=14, at=on_sources(10, "bimodal")),
        steps=Setting(0, STEPS.help, low=0, quick=0, at={"dcwp": 10000, "mrm": 10000}),
        batch_size=Setting(
            64,
            "images in a training batch",
            low=1,
            at={
                **dict.fromkeys(CIFAR, 256),
                **on_sources(128, "jitter", "bimodal"),
                "dcwp": 256,
                "mrm": 256,
                **on_images("dcwp", 256, 64, celeba=128),
                **on_images("mrm", 256, 64, celeba=128),
            },
        ),
        optimiser=Setting(
            None,
            "optimiser of this stage; None: the run's",
            choices=tuple(OPTIMISERS),
            optional=True,
            at=on_sources("sgd", "jitter"),
        ),
        learning_rate=Setting(
            1e-3,
            "learning rate",
            low=0,
            at={
                **dict.fromkeys(PHOTOGRAPHS, 1e-4),
                **on_sources(1e-2, "jitter"),
                "dcwp": 1e-2,
                "mrm": 1e-2,
                **on_images("dcwp", 1e-3, 1e-3, celeba=1e-4),
                **on_images("mrm", 1e-3, 1e-3, celeba=1e-4),
            },
            search=("log", 1e-4, 1e-2),
        ),
        weight_decay=Setting(0.0, "weight decay", low=0, at=on_sources(5e-4, "jitter"), search=("log", 1e-6, 1e-2)),
        decay_every=Setting(
            0,
            "epochs after which the learning rate is multiplied by `decay` each time; 0: never",
            low=0,
            at=on_sources(40, "jitter"),
        ),
        decay=Setting(0.1, "factor on the learning rate", low=0, high=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        spec, model = new_classifier(ctx, ctx.own["network"], self.name)

        def loss(batch: Batch) -> tuple[Tensor, Logs]:
            logits = model(batch.inputs)
            return cross_entropy(logits, batch.target), {"train/accuracy": hit_rate(logits, batch.target)}

        every = ctx.own["decay_every"]
        schedule = step_decay(every, ctx.own["decay"]) if every else None
        fitted = fit_classifier(ctx, model, loss, schedule=schedule)
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}
