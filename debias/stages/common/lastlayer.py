"""What stages that train the last layer again have in common: a frozen network, held-out images, full-batch steps."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from debias.data.batches import Batches
from debias.data.split import Split
from debias.errors import UserError
from debias.models.registry import Classifier
from debias.settings import Setting
from debias.stages.common.classifier import stored_classifier, training_settings
from debias.training.artifacts import TrainedModel
from debias.training.evaluation import map_images
from debias.training.stage import Context, Settings

_OF_STEPS = ("optimiser", "learning_rate", "weight_decay", "beta2")


def last_layer_settings(**changes: Setting) -> dict[str, Setting]:
    """Settings of a stage that trains a last layer on all held-out images in one batch, with `changes`."""
    common = {name: setting for name, setting in training_settings().items() if name in _OF_STEPS}
    common["epochs"] = Setting(10, "rounds of steps, with an evaluation after each", low=1, quick=4)
    common["round_steps"] = Setting(50, "steps of a round, each on all of the images", low=1)
    return common | changes


def check_held_out(stage: str, settings: Settings) -> None:
    """Refuse, with a UserError, a run without held-out images."""
    if settings["valid_fraction"] == 0 and not settings["own_valid"]:
        raise UserError(f"{stage} trains on held-out images: set valid_fraction, as in valid_fraction=0.2")


def held_out(ctx: Context) -> Split:
    """The held-out images: with bias labels only for a stage that declared its need of them."""
    if ctx.task.valid is None:
        raise UserError(f"{ctx.stage} trains on held-out images: set valid_fraction, as in valid_fraction=0.2")
    return ctx.task.valid if ctx.bias_declared else ctx.task.valid.without_bias()


def frozen(ctx: Context, source: TrainedModel) -> Classifier:
    """The network with its last weights, in evaluation mode and without gradients, on the device."""
    model = stored_classifier(ctx, source)
    return model.requires_grad_(False).eval()


def features_of(model: Classifier, split: Split, ctx: Context) -> Tensor:
    """Features of all images of a split, float [N, F], computed once."""
    return map_images(model.features, ctx.task, split).clone()


def rounds_of(split: Split, own: Mapping[str, Any], ctx: Context) -> Batches:
    """Batches of one image, `round_steps` a round: they count steps, as each step is on features of all images."""
    task = ctx.task
    return Batches(split.without_bias(), 1, mean=task.mean, std=task.std, draws=own["round_steps"])
