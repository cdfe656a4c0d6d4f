"""A network that has learnt the shortcut and little else, whatever kind of shortcut it is: for asking, not for use."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from debias.data.batches import Batch
from debias.losses.gce import doubt, gce_lff
from debias.models.registry import BACKBONES
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import finite_or_stop, new_classifier, optimiser_for, training_settings
from debias.stages.common.scores import mined_scores, mining_figures, pseudo_labels
from debias.training.artifacts import Artifact
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Context, Stage

THRESHOLD = 0.5


class Shortcut(Stage):
    """Two small networks under generalised cross-entropy; the better one on held-out images is the one to ask.

    What a shortcut is made of decides which network finds it easy: one on pixels sees places and colours, one that
    averages over places sees textures. Generalised cross-entropy lets both settle on what most images agree on. They
    are trained side by side on the same batches and share nothing. Without held-out images (`valid_fraction`) training
    images decide.
    """

    takes_features = False
    name = "shortcut"
    summary = "suspects and pseudo bias labels: small networks that learn what is easy (GCE), the better one of two"
    gives = ("conflict_score", "bias", "shortcut", HELD_OUT_BIAS)
    read_outs = ("pixels", "texture")
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        pixels=Setting("mlp3", "network that sees places", choices=tuple(BACKBONES)),
        texture=Setting("end_cnn_small", "network that averages over places", choices=tuple(BACKBONES)),
        q=Setting(0.7, "exponent of the generalised cross-entropy", low=0.01, high=1, search=("uniform", 0.3, 0.9)),
        epochs=Setting(8, "passes over the training images", low=1),
        batch_size=Setting(32, "images in a training batch", low=1),
        learning_rate=Setting(1e-2, "learning rate", low=0, search=("log", 1e-3, 1e-1)),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task, train = ctx.own, ctx.task, ctx.train
        specs, networks = {}, {}
        for name in self.read_outs:
            specs[name], networks[name] = new_classifier(ctx, own[name], f"{self.name}/{name}")
        model = nn.ModuleDict(networks)
        batches, rounds = training_batches(ctx, own)

        def read(images: Tensor) -> dict[str, Tensor]:
            return {name: network(images) for name, network in networks.items()}

        def loss(batch: Batch) -> Tensor:
            return torch.stack(
                [gce_lff(logits, batch.target, own["q"]) for logits in read(batch.images).values()]
            ).sum()

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=read,
                main="pixels",
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        model.eval()
        accuracy = {name: _accuracy(network, ctx) for name, network in networks.items()}
        chosen = max(accuracy, key=lambda name: accuracy[name])
        network = networks[chosen]
        logits = map_images(network, task, train)
        score = doubt(logits, train.target)
        figures = mining_figures(score, THRESHOLD, task)
        figures |= {f"easy/{name}/valid": 100 * value for name, value in accuracy.items()}
        _, made = pseudo_labels(network, specs[chosen], chosen, logits, ctx)
        return {
            **made,
            "conflict_score": mined_scores(ctx, score, THRESHOLD),
            "report": fitted.report().with_figures(figures),
        }


def _accuracy(network: nn.Module, ctx: Context) -> float:
    """Mean over classes of the share that is predicted right, on held-out images where there are any; in [0, 1]."""
    held_out = ctx.train if ctx.task.valid is None else ctx.task.valid.without_bias()
    right = map_images(lambda images: network(images).argmax(1), ctx.task, held_out) == held_out.target
    count = torch.zeros(2, ctx.task.n_targets, device=right.device)
    count[0].index_add_(0, held_out.target, right.float())
    count[1].index_add_(0, held_out.target, torch.ones_like(right, dtype=torch.float32))
    seen = count[1] > 0
    return float((count[0][seen] / count[1][seen]).mean())
