"""AFR: the last layer is trained again on held-out images that the network doubts (ICML 2023)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from debias.data.batches import Batch
from debias.errors import UserError
from debias.losses.last_layer import doubted_weights, pulled_back
from debias.settings import Setting
from debias.stages.common.classifier import finite_or_stop, model_artifact, optimiser_for
from debias.stages.common.lastlayer import check_held_out, features_of, frozen, held_out, last_layer_settings, rounds_of
from debias.training.artifacts import TrainedModel, take
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Settings, Stage


class AFR(Stage):
    """Weighted cross-entropy on features of held-out images, weights exp(-gamma p(target)); no bias labels are read.

    The network before it has not seen these images, so that it is wrong where its shortcut is. As they are trained on
    here, the selection `valid` is not an independent one.
    """

    name = "afr"
    summary = "AFR: train the last layer again on held-out images, those most that the network doubts"
    needs = ("model",)
    gives = ("model",)
    read_outs = ("retrained",)
    settings: ClassVar[Mapping[str, Setting]] = last_layer_settings(
        gamma=Setting(10.0, "how much more images weigh the less the network believes in their class", low=0),
        l2=Setting(0.0, "weight of the squared distance from the last layer as it was", low=0),
        optimiser=Setting(
            "sgd", "optimiser of this stage; None: the run's", choices=("adam", "adamw", "sgd"), optional=True
        ),
        learning_rate=Setting(1e-2, "learning rate", low=0, search=("log", 1e-3, 1e-1)),
    )

    def check(self, settings: Settings) -> None:
        check_held_out(self.name, settings)
        if settings["dataset"].startswith("biased_") and settings["validation"] != "biased":
            raise UserError(
                "afr needs held-out images that are as biased as the training images: set validation=biased"
            )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, source, images = ctx.own, take(inputs, "model", TrainedModel), held_out(ctx)
        model = frozen(ctx, source)
        known = features_of(model, images, ctx)
        weights = doubted_weights(model.head(known), images.target, own["gamma"])
        before = [value.detach().clone() for value in model.head.parameters()]
        model.head.requires_grad_(True)

        def loss(batch: Batch) -> Tensor:
            now = list(model.head.parameters())
            return pulled_back(model.head(known), images.target, weights, now, before, own["l2"])

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.head.parameters()))],
                batches=rounds_of(images, own, ctx),
                epochs=own["epochs"],
                read_outs=lambda inputs: {"retrained": model(inputs)},
                main="retrained",
                frozen=[model.backbone],
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        return {"model": model_artifact(source.spec, fitted, "retrained", source.initial), "report": fitted.report()}
