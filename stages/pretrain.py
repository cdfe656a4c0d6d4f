"""Empirical risk minimisation: the baseline of every paper, and the first stage of the pruning methods."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches import Batch, Batches
from models.registry import BACKBONES, build_classifier, seeded
from settings import Setting
from stages.base import Artifact, Context, Stage
from stages.fit import Job, Update, fit
from stages.optimisers import make_optimiser
from stages.seeds import derive


class Pretrain(Stage):
    """Cross-entropy on uniformly drawn images (ERM)."""

    name = "pretrain"
    summary = "train a classifier by cross-entropy alone (ERM)"
    gives = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = {
        "network": Setting("mlp5", "network that is trained", choices=tuple(BACKBONES)),
        "epochs": Setting(100, "passes over the training images", low=1, quick=14),
        "batch_size": Setting(64, "images in a training batch", low=1, search=("choice", (64, 128, 256))),
        "learning_rate": Setting(1e-3, "learning rate", low=0, search=("log", 1e-4, 1e-2)),
        "weight_decay": Setting(0.0, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
    }

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task = ctx.own, ctx.task
        spec = {"backbone": own["network"], "shape": list(task.image_shape), "classes": task.n_targets}
        model = seeded(lambda: build_classifier(spec), derive(ctx.seed, self.name, "weights")).to(ctx.device)
        batches = Batches(ctx.train, own["batch_size"], mean=task.mean, std=task.std, augment=task.augment)
        optimiser = make_optimiser(
            ctx.settings["optimiser"],
            model.parameters(),
            learning_rate=own["learning_rate"],
            weight_decay=own["weight_decay"],
        )

        def loss(batch: Batch) -> Tensor:
            return cross_entropy(model(batch.images), batch.target)

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser)],
                batches=batches,
                epochs=own["epochs"],
                read_outs=lambda images: {"model": model(images)},
                main="model",
            ),
            ctx,
        )
        return {"model": {"spec": spec, "states": fitted.states()}, "report": fitted.report()}
