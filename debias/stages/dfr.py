"""DFR: the last layer is fitted afresh on held-out images of equally large groups (ICLR 2023). Reads bias labels."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from debias.data.batches import Batch
from debias.errors import UserError
from debias.losses.last_layer import balanced_subset, sparse_logistic
from debias.models.registry import Classifier
from debias.randomness import stream
from debias.settings import Setting
from debias.stages.common.classifier import finite_or_stop, optimiser_for
from debias.stages.common.lastlayer import check_held_out, features_of, frozen, held_out, last_layer_settings, rounds_of
from debias.training.artifacts import TrainedModel, take
from debias.training.job import Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Settings, Stage


class DFR(Stage):
    """L1-penalised logistic regression on features of group-balanced draws of held-out images, averaged over draws.

    A draw has as many images of each group as the smallest has, of those that have any. Features are standardised
    by the training images. As held-out images are trained on here, the selection `valid` is not an independent one.
    """

    name = "dfr"
    summary = "DFR: fit the last layer afresh on held-out images of balanced groups (reads their bias labels)"
    needs = ("model",)
    gives = ("model",)
    read_outs = ("retrained",)
    needs_bias_labels = True
    settings: ClassVar[Mapping[str, Setting]] = last_layer_settings(
        c=Setting(1.0, "inverse strength of the L1 penalty; published are 1 to .01", low=1e-6, search=("log", 1e-2, 1)),
        refits=Setting(10, "draws whose last layers are averaged", low=1),
        learning_rate=Setting(1e-2, "learning rate", low=0, search=("log", 1e-3, 1e-1)),
    )

    def check(self, settings: Settings) -> None:
        check_held_out(self.name, settings)

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, source, images = ctx.own, take(inputs, "model", TrainedModel), held_out(ctx)
        if images.bias is None or ctx.train.bias is None:
            raise UserError(f"{self.name} reads bias labels, and {ctx.task.name} has none; use method=afr")
        network = frozen(ctx, source)
        seen = features_of(network, ctx.train, ctx)
        model = Refits(network, own["refits"], *torch.std_mean(seen, dim=0)).to(ctx.device)
        group = (images.target * ctx.task.n_biases + images.bias).cpu()
        draws = stream(ctx.seed, f"{self.name} draws")
        chosen = torch.stack([balanced_subset(group, draws) for _ in range(own["refits"])]).to(ctx.device)
        ctx.say(f"{self.name}: {chosen.shape[1]} of {len(images)} held-out images in each of {own['refits']} draws")
        known, target = model.standardised(features_of(network, images, ctx))[chosen], images.target[chosen]

        def loss(batch: Batch) -> Tensor:
            return sparse_logistic(known, target, model.weight, model.bias, own["c"])

        fitted = fit(
            Job(
                model=model,
                updates=[Update(loss, optimiser_for(ctx, [model.weight, model.bias]))],
                batches=rounds_of(images, own, ctx),
                epochs=own["epochs"],
                read_outs=lambda inputs: {"retrained": model(inputs)},
                main="retrained",
                frozen=[network],
            ),
            ctx,
        )
        finite_or_stop(fitted, self.name)
        states = {}
        for selection, state in fitted.states().items():
            model.load_state_dict(state)
            weight, bias = model.folded()
            states[selection] = {**_network_in(state), "head.weight": weight.cpu(), "head.bias": bias.cpu()}
        return {"model": TrainedModel(source.spec, states, "retrained", source.initial), "report": fitted.report()}


class Refits(nn.Module):
    """Last layers on standardised features of one network, which answer by the mean of their logits."""

    def __init__(self, network: Classifier, refits: int, spread: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.network = network
        classes, features = network.head.weight.shape
        self.weight = nn.Parameter(torch.zeros(refits, classes, features))
        self.bias = nn.Parameter(torch.zeros(refits, classes))
        self.centre, self.spread = nn.Buffer(centre), nn.Buffer(spread.clamp_min(1e-6))

    def standardised(self, features: Tensor) -> Tensor:
        """Features [..., F] with mean 0 and deviation 1 over the training images."""
        return (features - self.centre) / self.spread

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight [C, F] and bias [C] of one last layer on features as they are, which gives the mean of all logits."""
        weight = self.weight.detach().mean(0) / self.spread
        return weight, self.bias.detach().mean(0) - weight @ self.centre

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return nn.functional.linear(self.network.features(images), *self.folded())


def _network_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = "network."
    return {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
