"""DisEnt, also called DFA: encoders for target and bias, and bias features exchanged in the batch (NeurIPS 2021)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.errors import UserError
from debias.losses.disentangle import disentangling, seen_by_each
from debias.losses.reweight import UNSEEN, class_members, class_normalised, ema_update_, relative_difficulty
from debias.models.dual import Dual
from debias.models.registry import seeded
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.baselines import SECOND_DIVISION, network_of
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    finite_or_stop,
    network_setting,
    new_classifier,
    optimiser_for,
    step_decay,
    training_settings,
)
from debias.stages.common.pairs import states_of
from debias.training.artifacts import TrainedModel
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage

# Two encoders of a network, by that network's name.
_DUAL = {
    "mlp3": "dual_mlp3",
    "mlp4": "dual_mlp4",
    "mlp5": "dual_mlp5",
    "mlp3_divided": "dual_mlp3_divided",
    "mlp4_divided": "dual_mlp4_divided",
    "mlp5_divided": "dual_mlp5_divided",
    "mlp_features": "dual_mlp_features",
    "resnet20": "dual_resnet20",
    "resnet18": "dual_resnet18",
}


class DFA(Stage):
    """Weighted cross-entropy for the target's encoder and classifier, GCE for the bias's; later on exchanged features.

    Weights are LfF's relative difficulty, of running averages per image. From `swap_after` epochs on each image's bias
    features are also those of another image of the batch.
    """

    name = "dfa"
    summary = "DFA (DisEnt): encoders for target and bias, bias features exchanged within the batch"
    gives = ("model",)
    read_outs = ("model", "biased")
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting("network of each encoder, one of " + ", ".join(_DUAL)),
        second_division=SECOND_DIVISION,
        q=Setting(0.7, "exponent of the generalised cross-entropy", low=0.01, high=1, search=("uniform", 0.3, 0.9)),
        alpha=Setting(0.7, "share of the old value in the running averages", low=0, high=1),
        bias_weight=Setting(10.0, "weight of the biased classifier's loss (lambda_dis)", low=0),
        swap_weight=Setting(1.0, "weight of both losses on exchanged features (lambda_swap)", low=0),
        swap_bias_weight=Setting(10.0, "weight of the biased one's among these (lambda_swap_b)", low=0),
        swap_after=Setting(
            43,
            "epochs before features are exchanged; 43 are the published 10,000 steps of 256 of 60,000 images",
            low=0,
            quick=3,
        ),
        decay_every=Setting(43, "epochs between two multiplications of the learning rate by `decay`; 0: never", low=0),
        decay=Setting(0.5, "factor on the learning rate", low=0, high=1),
        epochs=Setting(100, "passes over the training images", low=1, quick=8),
        batch_size=Setting(256, "images in a training batch", low=1),
        learning_rate=Setting(
            1e-3,
            "learning rate; on Colored MNIST 1e-2 was published, for inputs that are divided once more",
            low=0,
            search=("log", 1e-4, 1e-2),
        ),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, train, classes = ctx.own, ctx.train, ctx.task.n_targets
        spec, classifier = new_classifier(ctx, _dual_of(ctx), self.name)
        encoders = classifier.backbone
        assert isinstance(encoders, Dual)
        head = seeded(lambda: nn.Linear(encoders.features, classes), derive(ctx.seed, self.name, "biased", "weights"))
        model = nn.ModuleDict({"target": classifier, "biased": head.to(ctx.device)})
        members = class_members(train.target, classes)
        averages = {name: torch.full((len(train),), UNSEEN, device=ctx.device) for name in model}
        batches, rounds = training_batches(ctx, own)
        steps, first = torch.zeros((), device=ctx.device), own["swap_after"] * len(batches)

        def weigh(name: str, batch: Batch, logits: Tensor) -> Tensor:
            difficulty = cross_entropy(logits.detach(), batch.target, reduction="none")
            ema_update_(averages[name], batch.index, difficulty, own["alpha"])
            return class_normalised(averages[name], batch.index, train.target, members)

        def logits_of(target: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            for_target, for_bias = seen_by_each(target, bias)
            return classifier.head(for_target), head(for_bias)

        def loss(batch: Batch) -> Tensor:
            target, bias = encoders.target(batch.images), encoders.bias(batch.images)
            logits, biased = logits_of(target, bias)
            weight = relative_difficulty(weigh("biased", batch, biased), weigh("target", batch, logits))
            apart = disentangling(logits, biased, batch.target, batch.target, weight, own["bias_weight"], own["q"])
            other = torch.rand(len(target), generator=ctx.generator, device=ctx.device).argsort()
            swapped = disentangling(
                *logits_of(target, bias[other]),
                batch.target, batch.target[other], weight, own["swap_bias_weight"], own["q"],
            )  # fmt: skip
            # Computed in any case: which step it is stays on the device.
            begun = (steps >= first).to(apart.dtype)
            steps.add_(1)
            return apart + own["swap_weight"] * begun * swapped

        def read_outs(images: Tensor) -> dict[str, Tensor]:
            features = classifier.features(images)
            return {"model": classifier.head(features), "biased": head(features)}

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
                batches=batches,
                epochs=rounds,
                read_outs=read_outs,
                main="model",
                schedule=step_decay(own["decay_every"], own["decay"]) if own["decay_every"] else None,
                tensors={**averages, "steps": steps},
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        artifact = TrainedModel(spec, states_of(fitted, "target"), read_out="model", initial=self.name)
        return {"model": artifact, "report": fitted.report()}


def _dual_of(ctx: Context) -> str:
    name = network_of(ctx)
    if name not in _DUAL:
        raise UserError(f"{ctx.stage}.network={name}: two encoders are made of {', '.join(_DUAL)}; choose one of these")
    return _DUAL[name]
