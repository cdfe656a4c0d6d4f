"""DeNetDM, stage 2: a target network learns beside the frozen deep branch and from the shallow one (section 4.2)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.errors import UserError
from debias.losses.poe import distillation
from debias.models.branches import build_branches
from debias.models.registry import BACKBONES
from debias.settings import Setting
from debias.stages.common.classifier import (
    fit_classifier,
    model_artifact,
    new_classifier,
    training_settings,
)
from debias.training.artifacts import State, TrainedBranches, take
from debias.training.evaluation import map_images
from debias.training.speed import speed_up
from debias.training.stage import Artifact, Context, Settings, Stage
from debias.vocabulary import TAINT


class Distill(Stage):
    """poe_weight * CE(f_t(t(x) + deep(x)), y) + dist_weight * L_dist(f_t(t(x)), f(shallow(x))).

    Both branches stay in evaluation mode: normalisation statistics do not move (in the reference code they do).
    Reported is f_t(t(x)).
    """

    name = "distill"
    summary = "DeNetDM stage 2: distil the shallow branch into a target network"
    needs = ("branches",)
    gives = ("model",)
    read_outs = ("target",)
    settings: ClassVar[Mapping[str, Setting]] = {
        # Not the data set's network: it has to give as many features as the branches.
        "network": Setting(
            "mlp5",
            "network of the target branch",
            choices=tuple(BACKBONES),
        ),
        "teacher": Setting(
            "mean",
            "which weights of stage 1 teach: the mean of its last quarter, its last, the best on held-out images, or "
            "(as in the reference code) the best on the test set",
            choices=("mean", "last", "valid", "oracle"),
        ),
        **training_settings(
            epochs=Setting(100, "passes over the training images", low=1, quick=6),
        ),
        "temperature": Setting(2.0, "softens teacher and student", low=1e-3, search=("uniform", 1.0, 8.0)),
        "poe_weight": Setting(1.0, "weight of the loss beside the deep branch", low=0, search=("uniform", 0.0, 2.0)),
        "dist_weight": Setting(
            1.0,
            "weight of the distillation loss",
            low=0,
            search=("uniform", 0.0, 2.0),
        ),
    }

    def check(self, settings: Settings) -> None:
        if settings[self.name]["teacher"] != "valid":
            return
        if settings["valid_fraction"] == 0:
            raise UserError("distill.teacher=valid needs held-out images: set valid_fraction, as in valid_fraction=0.1")
        if settings["dataset"].startswith("biased_") and settings["validation"] != "biased":
            raise UserError(
                "distill.teacher=valid needs held-out images that are as biased as the training images: "
                "set validation=biased"
            )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task = ctx.own, ctx.task
        trained = take(inputs, "branches", TrainedBranches)
        branches = build_branches(trained.spec)
        branches.load_state_dict(_chosen(trained.states, own["teacher"]))
        branches.to(ctx.device).requires_grad_(False).eval()
        speed_up(branches, ctx)

        spec, model = new_classifier(ctx, own["network"], self.name)
        if model.head.in_features != branches.head.in_features:
            raise UserError(
                f"distill.network={own['network']} gives {model.head.in_features} features, but the branches give "
                f"{branches.head.in_features}; the target network must give as many"
            )
        model.head.load_state_dict(branches.head.state_dict())

        train = ctx.train

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

        fitted = fit_classifier(ctx, model, loss, read_out="target")
        report = fitted.report()
        if own["teacher"] == "oracle":
            # Nothing that was taught by weights chosen on the test set may pass for an honest selection.
            report = replace(report, summary={name + _tainted(name): each for name, each in report.summary.items()})
        return {"model": model_artifact(spec, fitted, "target", self.name), "report": report}


def _tainted(name: str) -> str:
    return "" if name.endswith("/oracle") else TAINT


def _chosen(states: Mapping[str, State], selection: str) -> State:
    if selection not in states:
        raise UserError("distill.teacher=valid: no images are held out; set valid_fraction as well")
    return states[selection]
