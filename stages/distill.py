"""DeNetDM, stage 2: a target network learns beside the frozen deep branch and from the shallow one (section 4.2)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches import Batch, Batches
from errors import UserError
from losses.poe import distillation
from models.branches import build_branches
from models.registry import BACKBONES, Classifier, build_classifier, seeded
from settings import Setting
from stages.base import Artifact, Context, Stage
from stages.evaluate import map_images
from stages.fit import Job, Update, fit
from stages.optimisers import make_optimiser
from stages.seeds import derive


class Distill(Stage):
    """poe_weight * CE(f_t(t(x) + deep(x)), y) + dist_weight * L_dist(f_t(t(x)), f(shallow(x))).

    Both branches stay in evaluation mode: normalisation statistics do not move (in the reference code they do).
    Reported is f_t(t(x)).
    """

    name = "distill"
    summary = "DeNetDM stage 2: distil the shallow branch into a target network"
    needs = ("branches",)
    gives = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = {
        "network": Setting("mlp5", "network of the target branch", choices=tuple(BACKBONES)),
        "teacher": Setting(
            "last",
            "which weights of stage 1 teach: those of its last epoch, of the best on held-out images, or (as the "
            "reference code) of the best on the test set",
            choices=("last", "valid", "oracle"),
        ),
        "epochs": Setting(100, "passes over the training images", low=1, quick=6),
        "batch_size": Setting(64, "images in a training batch", low=1, search=("choice", (64, 128, 256))),
        "learning_rate": Setting(1e-3, "learning rate", low=0, search=("log", 1e-4, 1e-2)),
        "weight_decay": Setting(0.0, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
        "temperature": Setting(2.0, "softens teacher and student", low=1e-3, search=("uniform", 1.0, 8.0)),
        "poe_weight": Setting(1.0, "weight of the loss beside the deep branch", low=0, search=("uniform", 0.0, 2.0)),
        "dist_weight": Setting(1.0, "weight of the distillation loss", low=0, search=("uniform", 0.0, 2.0)),
    }

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task = ctx.own, ctx.task
        branches = build_branches(inputs["branches"]["spec"])
        branches.load_state_dict(_chosen(inputs["branches"]["states"], own["teacher"]))
        branches.to(ctx.device).requires_grad_(False).eval()

        spec = {"backbone": own["network"], "shape": list(task.image_shape), "classes": task.n_targets}
        model = seeded(lambda: build_classifier(spec), derive(ctx.seed, self.name, "weights")).to(ctx.device)
        assert isinstance(model, Classifier)
        if model.head.in_features != branches.head.in_features:
            raise UserError(
                f"distill.network={own['network']} gives {model.head.in_features} features, but the branches give "
                f"{branches.head.in_features}; the target network must give as many"
            )
        model.head.load_state_dict(branches.head.state_dict())

        train = ctx.train
        batches = Batches(train, own["batch_size"], mean=task.mean, std=task.std, augment=task.augment)
        optimiser = make_optimiser(
            ctx.settings["optimiser"],
            model.parameters(),
            learning_rate=own["learning_rate"],
            weight_decay=own["weight_decay"],
        )

        def frozen(images: Tensor) -> Tensor:
            """Deep features and teacher logits side by side, [B, F + classes]."""
            shallow, deep = branches.experts(images)
            return torch.cat([deep, branches.head(shallow)], dim=1)

        # Without augmentation what the frozen branches say of an image never changes: it is computed once.
        known = map_images(frozen, task, train).clone() if task.augment is None else None
        poe_weight, dist_weight, temperature = own["poe_weight"], own["dist_weight"], own["temperature"]

        def loss(batch: Batch) -> Tensor:
            if known is None:
                with torch.no_grad():
                    said = frozen(batch.images)
            else:
                said = known.index_select(0, batch.index)
            deep, teacher = said.tensor_split([said.shape[1] - task.n_targets], dim=1)
            features = model.features(batch.images)
            beside = cross_entropy(model.head(features + deep), batch.target)
            return poe_weight * beside + dist_weight * distillation(model.head(features), teacher, temperature)

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser)],
                batches=batches,
                epochs=own["epochs"],
                read_outs=lambda images: {"target": model(images)},
                main="target",
            ),
            ctx,
        )
        report = fitted.report()
        if own["teacher"] == "oracle":
            # Nothing that was taught by weights chosen on the test set may pass for an honest selection.
            report["summary"] = {name + _tainted(name): value for name, value in report["summary"].items()}
        return {"model": {"spec": spec, "states": fitted.states()}, "report": report}


def _tainted(name: str) -> str:
    return "" if name.endswith("/oracle") else "_of_oracle_teacher"


def _chosen(states: Mapping[str, Mapping[str, Tensor]], selection: str) -> Mapping[str, Tensor]:
    if selection not in states:
        raise UserError("distill.teacher=valid: no images are held out; set valid_fraction as well")
    return states[selection]
