"""Functional Fisher information as a regulariser (Gat et al., NeurIPS 2020): training that uses every modality."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.losses.fisher import (
    ESTIMATIONS,
    LEAST_PUBLISHED,
    METHODS,
    neighbour_distance,
    perturbed,
    published_information,
    regularised,
    regulariser,
)
from debias.metrics import shares
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    fit_classifier,
    hit_rate,
    model_artifact,
    network_setting,
    new_classifier,
    training_settings,
)
from debias.training.job import Logs
from debias.training.stage import Artifact, Context, Stage


class Fisher(Stage):
    """Cross-entropy plus a function of the information that the prediction takes from the image and from the vector.

    Without a second modality the image's alone is regularised. With both weights 0 it is plain cross-entropy, and the
    information is only measured.

    The report has it for every epoch: `information/image` and `information/colour`, means over the epoch's batches.
    """

    name = "fisher"
    summary = "functional Fisher information: train a classifier to use every modality"
    gives = ("model",)
    read_outs = ("model",)
    takes_vector = True
    # Its regulariser is a function of small squared gradients.
    exact = True
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        lambda_image=Setting(1e-4, "weight of the image's information", low=0, search=("log", 1e-6, 1)),
        lambda_colour=Setting(1e-4, "weight of the second modality's information", low=0, search=("log", 1e-6, 1)),
        regularise=Setting(
            "max_ent", "raise the information of every modality, lower it, or raise it linearly", choices=METHODS
        ),
        estimation=Setting("ent", "|grad f|^2 / f as in the paper, or |grad f|^2", choices=ESTIMATIONS),
        norm=Setting(2.0, "order of the norm over modalities", low=1.0),
        n_samples=Setting(1, "perturbed copies of every image", low=1),
        perturb=Setting(
            0.25,
            "share of a batch's images that are perturbed; 0: plain cross-entropy",
            low=0.0,
            high=1.0,
        ),
        neighbours=Setting(21, "nearest other images whose mean distance is the size of the noise", low=1),
        form=Setting("paper", "the paper's form, or that of the published code", choices=("paper", "published")),
        epochs=Setting(10, "passes over the training images, at most", low=1, quick=3),
        patience=Setting(
            0,
            "stop when the mean loss of this many epochs changes by less than 0.001 between epochs; 0: never",
            low=0,
        ),
        batch_size=Setting(128, "images in a training batch", low=1),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own = ctx.own
        spec, model = new_classifier(ctx, own["network"], self.name)
        names = ("image", "colour") if ctx.task.vector_size else ("image",)
        if len(names) == 1:
            ctx.say(f"{self.name}: {ctx.task.name} has one modality, the image; nothing is weighed against it")
        weights = [own[f"lambda_{name}"] for name in names]
        published = own["form"] == "published"
        copies = own["n_samples"]

        def predict(*modalities: Tensor) -> Tensor:
            return model(modalities[0] if len(modalities) == 1 else modalities)

        # Mean losses of the epochs, and the sum of the running one.
        losses, running = torch.zeros(own["epochs"] + 1, device=ctx.device), torch.zeros((), device=ctx.device)

        def loss(batch: Batch) -> tuple[Tensor, Logs]:
            logits = model(batch.inputs)
            logs = {"train/accuracy": hit_rate(logits, batch.target)}
            total = cross_entropy(logits, batch.target)
            if own["perturb"] == 0:
                running.add_(total.detach())
                return total, logs
            parts = [batch.images] if batch.vector is None else [batch.images, batch.vector]
            some = perturbed_rows(len(logits), own)
            near = [perturbed(part[:some], noise_size(part, some, own), copies, ctx.generator) for part in parts]
            probability = torch.softmax(logits[:some], dim=1).repeat_interleave(copies, dim=0)
            if published:
                scores = published_information(predict(*near), probability, near, own["estimation"])
                added = regulariser(scores, weights, own["regularise"], own["norm"], LEAST_PUBLISHED)
            else:
                added, scores = regularised(
                    predict, probability, near, weights, own["regularise"], own["estimation"], own["norm"]
                )
            total = total + added
            running.add_(total.detach())
            return total, logs | {f"information/{name}": score for name, score in zip(names, scores, strict=True)}

        def after_epoch() -> None:
            losses.copy_(losses.roll(1))
            losses[0] = running / batches
            running.zero_()

        def stop(done: int) -> bool:
            patience = own["patience"]
            # Means over `patience` epochs, up to this one and up to the one before, differ in their ends alone.
            return 0 < patience < done and abs(float(losses[0] - losses[patience])) / patience < 1e-3

        training = training_batches(ctx, own)
        batches = len(training[0])
        tensors = {"losses": losses, "running": running}
        fitted = fit_classifier(
            ctx, model, loss, training=training, tensors=tensors, after_epoch=after_epoch, stop=stop
        )
        report = fitted.report()
        if own["perturb"]:
            report = report.with_figures(information_figures(fitted.history, names))
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": report}


def perturbed_rows(count: int, own: Mapping[str, Any]) -> int:
    """How many of a batch's images are perturbed: its first ones, a fair choice as it comes in random order."""
    return max(1, round(own["perturb"] * count))


def noise_size(rows: Tensor, some: int, own: Mapping[str, Any]) -> Tensor:
    """Standard deviation of the noise on each element of the first `some` rows, float [some].

    rows : float [B, ...], of one modality; own : the settings of the stage
    """
    copies, neighbours = own["n_samples"], own["neighbours"]
    distance = neighbour_distance(rows, neighbours, some)
    if own["form"] == "published":
        # Its neighbours are sought among all copies, where a row's own are the nearest, at distance 0.
        return distance * (copies * neighbours / (copies * neighbours + copies - 1))
    # Spread over the elements: a perturbed row is as far from its origin as its neighbours are.
    return distance / rows[0].numel() ** 0.5


def information_figures(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """The information of every modality and its share of that of all, in percent, at the first and the last epoch."""
    figures: dict[str, float] = {}
    for when, row in (("first", history[0]), ("last", history[-1])):
        amounts = [row[f"information/{name}"] for name in names]
        for name, amount, share in zip(names, amounts, shares(amounts), strict=True):
            figures |= {f"information/{name}/{when}": amount, f"information_share/{name}/{when}": 100 * share}
    return figures
