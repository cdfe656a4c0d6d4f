"""Images drawn so that target and bias label are independent: closed-form weights, then plain cross-entropy."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.reweight import independence_weights
from debias.settings import Setting
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


class Resample(Stage):
    """Cross-entropy on images drawn with weights q / P, under which the bias label says nothing of the target."""

    name = "resample"
    summary = "draw images so that target and bias are independent (needs bias labels, true or pseudo)"
    needs = ("bias",)
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        epochs=Setting(20, "passes' worth of drawn images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch", low=1),
        optimiser=Setting(
            "adamw", "optimiser of this stage; None: the run's", choices=("adam", "adamw", "sgd"), optional=True
        ),
        weight_decay=Setting(1e-4, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        bias, train = take(inputs, "bias", BiasLabels), ctx.train
        labels = groups_for(bias, train, self.name)
        weights = independence_weights(train.target, labels, ctx.task.n_targets, bias.n_biases)
        spec, model = new_classifier(ctx, ctx.own["network"], self.name)

        def loss(batch: Batch) -> Tensor:
            return cross_entropy(model(batch.inputs), batch.target)

        fitted = fit_classifier(ctx, model, loss, training=training_batches(ctx, ctx.own, weights=weights))
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": fitted.report()}
