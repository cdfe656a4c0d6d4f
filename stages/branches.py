"""DeNetDM, stage 1: a shallow and a deep branch trained as a product of experts (NeurIPS 2024, section 4.1)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches import Batch, Batches
from models.branches import Branches, build_branches
from models.registry import BACKBONES, seeded
from settings import Setting
from stages.base import Artifact, Context, Stage
from stages.evaluate import map_images
from stages.fit import Fitted, Job, Update, fit
from stages.optimisers import make_optimiser
from stages.seeds import derive


class BranchesStage(Stage):
    """Cross-entropy of the shared classifier on the sum of both branches' features.

    The deep branch takes up the bias, the shallow one the target. No bias labels are used.
    """

    name = "branches"
    summary = "DeNetDM stage 1: train a shallow and a deep branch together"
    gives = ("branches",)
    settings: ClassVar[Mapping[str, Setting]] = {
        "shallow": Setting("mlp3", "network of the shallow branch", choices=tuple(BACKBONES)),
        "deep": Setting("mlp5", "network of the deep branch", choices=tuple(BACKBONES)),
        "epochs": Setting(100, "passes over the training images", low=1, quick=8),
        "batch_size": Setting(64, "images in a training batch", low=1, search=("choice", (64, 128, 256))),
        "learning_rate": Setting(1e-3, "learning rate", low=0, search=("log", 1e-4, 1e-2)),
        "weight_decay": Setting(1e-3, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
    }

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task = ctx.own, ctx.task
        spec = {
            "shallow": own["shallow"],
            "deep": own["deep"],
            "shape": list(task.image_shape),
            "classes": task.n_targets,
        }
        model = seeded(lambda: build_branches(spec), derive(ctx.seed, self.name, "weights"))
        assert isinstance(model, Branches)
        model.to(ctx.device).join()
        batches = Batches(
            ctx.train, own["batch_size"], mean=task.mean, std=task.std, augment=task.augment, drop_last=True
        )
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
                read_outs=model.read_outs,
                main="shallow",
                rule="conflicting",
            ),
            ctx,
        )
        report = fitted.report()
        report["summary"] |= separation(model, fitted, ctx)
        return {"branches": {"spec": spec, "states": fitted.states()}, "report": report}


def separation(model: Branches, fitted: Fitted, ctx: Context) -> dict[str, float]:
    """Whether the branches have parted, in percent, at the last epoch.

    `separation/corrected/last` needs no bias labels: of the training images that the deep branch gets wrong, the share
    that the shallow one gets right. `separation/conflicting/last` needs them: how far the shallow branch is ahead of
    the deep one on conflicting test images.
    """

    def hits(images: Tensor) -> Tensor:
        read: Mapping[str, Tensor] = model.read_outs(images)
        return torch.stack([read["shallow"].argmax(1), read["deep"].argmax(1)], dim=1)

    model.eval()
    train = ctx.train
    right = map_images(hits, ctx.task, train) == train.target[:, None]
    missed = ~right[:, 1]
    figures: dict[str, float] = {}
    if bool(missed.any()):
        figures["separation/corrected/last"] = 100.0 * float((right[:, 0] & missed).sum() / missed.sum())
    last: Mapping[str, Any] = fitted.history[-1]
    if "shallow/conflicting" in last:
        figures["separation/conflicting/last"] = last["shallow/conflicting"] - last["deep/conflicting"]
    return figures
