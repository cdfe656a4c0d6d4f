"""What stages that train one classifier have in common: settings, building, optimiser, artifact."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from debias.data.batches import Batches
from debias.errors import UserError
from debias.features.choice import start_last_block
from debias.losses.gce import doubt
from debias.models.pretrained import start_from, starts_from_imagenet
from debias.models.registry import BACKBONES, Classifier, build_classifier, seeded
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.budget import EVALUATE_EVERY, STEPS, training_batches
from debias.training.artifacts import TrainedModel
from debias.training.job import Fitted, Job, Loss, Update
from debias.training.loop import fit
from debias.training.optimisers import OPTIMISERS, make_optimiser
from debias.training.stage import Context


def training_settings(**changes: Setting) -> dict[str, Setting]:
    """Settings of a stage that trains a classifier; `changes` replace or add some."""
    common = {
        "epochs": Setting(100, "passes over the training images", low=1),
        "steps": STEPS,
        "evaluate_every": EVALUATE_EVERY,
        "batch_size": Setting(
            64,
            "images in a training batch",
            low=1,
            search=("choice", (64, 128, 256)),
        ),
        "optimiser": Setting(
            None, "optimiser of this stage; None: the run's", choices=tuple(OPTIMISERS), optional=True
        ),
        "learning_rate": Setting(1e-3, "learning rate", low=0, search=("log", 1e-4, 1e-2)),
        "weight_decay": Setting(0.0, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
        "beta2": Setting(0.999, "Adam's second decay rate", low=0, high=0.999999),
    }
    return common | changes


def network_setting(help: str = "network that is trained") -> Setting:
    """The setting that names a network; a data set brings the one that its papers train (`data.kinds`)."""
    return Setting("mlp5", help, choices=tuple(BACKBONES), follows="network")


def optimiser_for(ctx: Context, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimiser that the running stage's settings describe."""
    own = ctx.own
    return make_optimiser(
        own["optimiser"] or ctx.settings["optimiser"],
        parameters,
        learning_rate=own["learning_rate"],
        weight_decay=own["weight_decay"],
        beta2=own["beta2"],
        momentum=own.get("momentum", 0.9),
    )


def new_classifier(ctx: Context, network: str, use: str) -> tuple[dict[str, Any], Classifier]:
    """The spec and a freshly initialised classifier on the device; equal seed and `use`, equal weights."""
    spec: dict[str, Any] = {
        "backbone": network,
        "shape": list(ctx.task.image_shape),
        "classes": ctx.task.n_targets,
    }
    if ctx.task.vector_size:
        spec["vector"] = ctx.task.vector_size
    return spec, initial_classifier(ctx, spec, use)


def initial_classifier(ctx: Context, spec: Mapping[str, Any], use: str) -> Classifier:
    """The initial weights that `new_classifier` gave for a spec and a use."""
    model = seeded(lambda: build_classifier(spec), derive(ctx.seed, use, "weights"))
    assert isinstance(model, Classifier)
    start_from_imagenet(ctx, {str(spec["backbone"]): model.backbone})
    start_last_block(model.backbone, str(spec["backbone"]), ctx.task.features, ctx.settings)
    return model.to(ctx.device)


def start_from_imagenet(ctx: Context, backbones: Mapping[str, nn.Module]) -> None:
    """Give fresh backbones, by their names in the registry, the weights of ImageNet where they start from them."""
    for name, backbone in backbones.items():
        if starts_from_imagenet(name):
            if ctx.imagenet_weights is None:
                raise UserError(f"{ctx.stage}: {name} starts from ImageNet's weights; set imagenet_weights=FILE")
            start_from(backbone, ctx.imagenet_weights)


def stored_classifier(ctx: Context, artifact: TrainedModel, selection: str = "last") -> Classifier:
    """A classifier with the weights of a `model` artifact, on the device."""
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states[selection])
    return model.to(ctx.device)


def model_artifact(spec: Mapping[str, Any], fitted: Fitted, read_out: str, use: str) -> TrainedModel:
    """The artifact `model`: spec, weights of every selection, its read-out, and the use its first weights came from."""
    return TrainedModel(spec=dict(spec), states=fitted.states(), read_out=read_out, initial=use)


def hit_rate(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Percent of a batch that is predicted right; a scalar that stays on the device."""
    return 100 * (logits.detach().argmax(1) == target).float().mean()


def step_decay(every: int, factor: float) -> Callable[[int], float]:
    """A schedule of `training.job.Job`: the learning rate is multiplied by `factor` after every `every` epochs."""
    return lambda epoch: factor ** (epoch // every)


def difficulty(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How wrong a prediction is, [B] in [0, 1]: above 1/2 exactly when the target is not the predicted class.

    Half of (1 - p(target)), and another half for a wrong prediction: the order among the wrong ones and among the right
    ones is that of 1 - p, and the threshold 1/2 gives the flag of the papers.
    """
    missing = doubt(logits, target)
    return ((logits.argmax(1) != target).to(missing.dtype) + missing) / 2


def fit_classifier(
    ctx: Context,
    model: nn.Module,
    loss: Loss,
    *,
    read_out: str = "model",
    training: tuple[Batches, int] | None = None,
    **job: Any,
) -> Fitted:
    """Train one classifier by one loss as the running stage's settings say.

    Parameters
    ----------
    ctx, model, loss
        The running stage's surroundings, what is trained and reported, and the loss of a batch.
    read_out
        The name under which the model's logits are reported.
    training
        Batches and rounds, as `training_batches` gives them; None: all training images, drawn uniformly.
    job
        Further fields of `training.job.Job`.

    Raises
    ------
    UserError
        When the training diverged.
    """
    batches, rounds = training or training_batches(ctx, ctx.own)
    fitted = fit(
        Job(
            model=model,
            updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
            batches=batches,
            epochs=rounds,
            read_outs=lambda images: {read_out: model(images)},
            main=read_out,
            **job,
        ),
        ctx,
    )
    finite_or_stop(fitted, ctx.stage)
    return fitted


def finite_or_stop(fitted: Fitted, stage: str) -> None:
    """Refuse the result of a training that diverged."""
    loss = fitted.history[-1].get("loss", 0.0)
    if loss != loss or abs(loss) == float("inf"):
        raise UserError(f"{stage}: the loss is {loss} at the end; lower {stage}.learning_rate")
