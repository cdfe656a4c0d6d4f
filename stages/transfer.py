"""Take the shortcut away: train on images that are given the shortcut of others, by the operator that moves it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches import Batch
from data.operators import CONTROL, OPERATORS
from data.split import Split, stratified_choice
from losses.reweight import bias_balanced, log_prior
from models.branches import build_branches
from randomness import stream
from settings import Setting
from stages.common.budget import training_batches
from stages.common.classifier import (
    fit_classifier,
    model_artifact,
    network_setting,
    new_classifier,
    stored_classifier,
    training_settings,
)
from stages.common.moving import Mover, Rates, rates_of
from stages.common.scores import labels_for
from training.artifacts import BiasLabels, TrainedBranches, TrainedModel, take
from training.job import Fitted, Loss
from training.stage import Artifact, Context, Stage
from training.store import StageFolder

# Percent by which operators on one property differ that do about the same.
ALIKE = 2.0
# What is tried of an operator: of how many images, and by which loss. With every image changed by a donor that is
# drawn whatever the target, pseudo labels say nothing about it any more, and both losses are one.
VARIANTS = ((1.0, "plain"), (0.5, "balanced"))


@dataclass(frozen=True)
class Way:
    """A way to train: an operator, the share of images that it is applied to, and the loss (plain, or balanced)."""

    operator: str
    share: float
    loss: str

    def __str__(self) -> str:
        if self.operator == CONTROL:
            return f"nothing moved, {self.loss} loss"
        of = "every image" if self.share >= 1 else f"{100 * self.share:g} % of the images"
        return f"{self.operator} on {of}, {self.loss} loss"


FALLBACK = Way(CONTROL, 0.0, "balanced")


@dataclass(frozen=True)
class Decision:
    """The way that was chosen, the rates of every operator, and balanced accuracy (%) of every way that was tried."""

    way: Way
    rates: Mapping[str, Rates]
    tried: Mapping[Way, float]

    def report(self) -> dict[str, Any]:
        """Plain data for the record of a run."""
        return {
            "chosen": asdict(self.way),
            "rates": {name: rates._asdict() for name, rates in self.rates.items()},
            "tried": [{**asdict(way), "balanced": score} for way, score in self.tried.items()],
        }

    def figures(self) -> dict[str, float]:
        """About the operator that was chosen, and how it did where ways were compared, in percent."""
        found = {"operator/share/chosen": 100 * self.way.share}
        rates = self.rates.get(self.way.operator)
        if rates is not None:
            known = {name: value for name, value in rates._asdict().items() if value is not None}
            found |= {f"operator/{name}/train": value for name, value in known.items()}
        if self.way in self.tried:
            found["operator/balanced/held_out"] = self.tried[self.way]
        return found


class Transfer(Stage):
    """Train on T(x, z), an image x with one property of another image z that is drawn whatever the target of x.

    The operator T is chosen by what a network that has learnt the shortcut answers on T(x, z): where its answers move
    along with z the shortcut is in that property. Of those that move it, and of training with nothing moved by the
    bias-balanced loss, short trials on a part of the training images choose: by balanced accuracy on the other part,
    over cells of target and pseudo bias label. No bias label and no test image is read. Where nothing that moves the
    shortcut does better than nothing moved, that is what is done.
    """

    name = "transfer"
    summary = "train on images that are given the shortcut of others, by an operator chosen without bias labels"
    needs = ("shortcut", "bias")
    uses = ("branches",)
    gives = ("model",)
    read_outs = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        operator=Setting("chosen", "what is moved; chosen: by the shortcut network", choices=("chosen", *OPERATORS)),
        share=Setting(0.0, "share of the images that the operator is applied to; 0: chosen", low=0, high=1),
        loss=Setting(
            "chosen",
            "cross-entropy (plain), bias-balanced on pseudo labels (that of a changed image is its donor's), or chosen",
            choices=("chosen", "plain", "balanced"),
        ),
        pairs=Setting(1000, "pairs of images on which operators are measured", low=1),
        least=Setting(40.0, "operators are tried that move at least this share (%) of the answers", low=0, high=100),
        most=Setting(2, "how many operators are tried, each of another property of images", low=1),
        trial_epochs=Setting(1, "passes of a trial over its part of the training images", low=1),
        trial_images=Setting(20000, "training images that a trial sees, at most", low=1),
        trial_fraction=Setting(0.2, "share of the training images on which trials are compared", low=0.01, high=0.5),
        epochs=Setting(20, "passes over the training images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch", low=2),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        labels = labels_for(take(inputs, "bias", BiasLabels), ctx.train, self.name)
        # Whoever goes on from a checkpoint does not decide anew.
        begun = ctx.folder.load_checkpoint()
        decision = self._decide(inputs, labels, ctx) if begun is None else _unpacked(begun.tensors)
        fitted, spec = train(decision.way, labels, ctx, tensors=_packed(decision))
        moved = "" if decision.way.operator == CONTROL else decision.way.operator
        report = replace(
            fitted.report().with_figures(decision.figures()), augmentation=moved, operator=decision.report()
        )
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": report}

    def _decide(self, inputs: Mapping[str, Artifact], labels: Tensor, ctx: Context) -> Decision:
        own = ctx.own
        shortcut = stored_classifier(ctx, take(inputs, "shortcut", TrainedModel))
        reader = None
        if "branches" in inputs:
            trained = take(inputs, "branches", TrainedBranches)
            branches = build_branches(trained.spec)
            branches.load_state_dict(trained.states["last"])
            branches.to(ctx.device).eval()
            reader = lambda images: branches.head(branches.shallow(images))  # noqa: E731
        rates = rates_of(OPERATORS, shortcut, reader, labels, own["pairs"], ctx)
        ways = ways_to_try(rates, own)
        if len(ways) == 1:
            decision = Decision(ways[0], rates, {})
        else:
            tried = tried_out(ways, labels, ctx)
            # The first of equals: an operator that moves more before one that moves less, and before none.
            decision = Decision(max(tried, key=lambda way: tried[way]), rates, tried)
        for line in told(decision, own["least"]):
            ctx.say(f"{self.name}: {line}")
        return decision


def ways_to_try(rates: Mapping[str, Rates], own: Mapping[str, Any]) -> list[Way]:
    """The ways among which trials choose: at least one, the last of them the fallback unless settings name an operator.

    Operators that move less than they leave, or than `least` percent, are left out. The others come by what they move
    and keep, of each property of images one: of those that do about the same the first in the list of operators,
    which is the simplest.

    rates : of every operator, as `rates_of` gives them
    """
    if own["operator"] != "chosen":
        names = [own["operator"]]
    else:
        moving = {
            name: rate.transferred * (1 if rate.kept is None else rate.kept / 100)
            for name, rate in rates.items()
            if name != CONTROL and rate.transferred >= own["least"] and rate.transferred > rate.stays
        }
        best: dict[str, str] = {}
        for name in sorted(moving, key=lambda name: -moving[name]):
            best.setdefault(OPERATORS[name].where, name)
        names = [
            next(
                name
                for name in OPERATORS
                if name in moving and OPERATORS[name].where == place and moving[name] >= moving[first] - ALIKE
            )
            for place, first in list(best.items())[: own["most"]]
        ]
    ways = [
        Way(name, own["share"] or share, loss if own["loss"] == "chosen" else own["loss"])
        for name in names
        for share, loss in VARIANTS
    ]
    if own["operator"] == "chosen":
        ways.append(FALLBACK)
    return list(dict.fromkeys(ways))


def tried_out(ways: Sequence[Way], labels: Tensor, ctx: Context) -> dict[Way, float]:
    """Balanced accuracy (%) of each way on training images that its trial leaves out, over target and pseudo label.

    All start from the same weights and see images in the same order.
    """
    own, train_split, task = ctx.own, ctx.train, ctx.task
    cell = (train_split.target * task.n_targets + labels).cpu()
    left_out = stratified_choice(cell, own["trial_fraction"], stream(ctx.seed, f"{ctx.stage}/trials"))
    seen, unseen = (torch.nonzero(mask).flatten().to(ctx.device) for mask in (~left_out, left_out))
    # In the order of the data neighbours may be of one class.
    order = torch.randperm(len(seen), generator=stream(ctx.seed, f"{ctx.stage}/trial images"))
    seen = seen[order[: own["trial_images"]].to(ctx.device)]
    held_out: Split = replace(train_split.subset(unseen), bias=labels[unseen])
    # What a trial takes for its test set is what it leaves out, and its bias is the pseudo label.
    trial_task = replace(
        task,
        train=train_split.subset(seen),
        test=held_out,
        valid=None,
        extra_tests={},
        bias_names=tuple(map(str, range(task.n_targets))),
    )
    settings = {**own, "epochs": own["trial_epochs"], "steps": 0}
    found = {}
    for number, way in enumerate(ways):
        trial = replace(
            ctx,
            task=trial_task,
            settings={**ctx.settings, ctx.stage: settings},
            folder=StageFolder(ctx.folder.path / f"trial{number}"),
            log=lambda name, value, epoch: None,
            progress=False,
            checkpoint_seconds=float("inf"),  # short, and done again after an interruption
            held_out_bias=None,
            together=None,
        )
        fitted, _ = train(way, labels[seen], trial)
        found[way] = fitted.history[-1]["model/unbiased"]
    return found


def train(
    way: Way, labels: Tensor, ctx: Context, tensors: Mapping[str, Tensor] | None = None
) -> tuple[Fitted, dict[str, Any]]:
    """A classifier trained in one way, and its spec.

    labels : pseudo bias label of every training image, int64 [N]
    """
    spec, model = new_classifier(ctx, ctx.own["network"], ctx.stage)
    mover = Mover(OPERATORS[way.operator], way.share, ctx.task) if way.share else None
    loss = _loss(way, model, mover, labels, ctx)
    training = training_batches(ctx, ctx.own)
    return fit_classifier(ctx, model, loss, training=training, tensors=tensors or {}), spec


def _loss(way: Way, model: torch.nn.Module, mover: Mover | None, labels: Tensor, ctx: Context) -> Loss:
    classes = ctx.task.n_targets
    prior = log_prior(ctx.train.target, labels, classes, classes, independent=way.share)

    def loss(batch: Batch) -> Tensor:
        images = batch.images
        bias = labels.index_select(0, batch.index)
        if mover is not None:
            images, donor, moved = mover(images, ctx.generator)
            bias = torch.where(moved, bias.index_select(0, donor), bias)
        logits = model(images)
        if way.loss == "plain":
            return cross_entropy(logits, batch.target)
        return bias_balanced(logits, batch.target, bias, prior)

    return loss


def told(decision: Decision, least: float) -> list[str]:
    """What was found and decided, in lines for the person."""
    ranked = sorted((name for name in decision.rates if name != CONTROL), key=lambda n: -decision.rates[n].transferred)
    lines = []
    if ranked:
        share = [f"{name} {decision.rates[name].transferred:.1f} %" for name in ranked[:3]]
        control = decision.rates[CONTROL].transferred if CONTROL in decision.rates else 0.0
        lines.append(f"answers of the shortcut network that move along: {', '.join(share)} (nothing: {control:.1f} %)")
    if decision.tried:
        scores = ", ".join(f"{way}: {score:.1f}" for way, score in decision.tried.items())
        lines.append(f"trials, balanced accuracy on images they left out, %: {scores}")
    if decision.way == FALLBACK:
        why = "nothing that moves it does better than that" if decision.tried else f"none moves {least:g} % of them"
        lines.append(f"no operator takes the shortcut away ({why}): bias-balanced on the pseudo labels instead")
    else:
        lines.append(f"chosen: {decision.way} ({OPERATORS[decision.way.operator].summary})")
    return lines


def _packed(decision: Decision) -> dict[str, Tensor]:
    """A decision as tensors of a checkpoint."""
    names, ways = list(OPERATORS), [*decision.tried] or [decision.way]
    losses = ("plain", "balanced")
    nothing = float("nan")
    rates = [
        [nothing if value is None else value for value in decision.rates[name]]
        if name in decision.rates
        else [nothing] * 3
        for name in names
    ]
    rows = [[names.index(w.operator), w.share, losses.index(w.loss), decision.tried.get(w, nothing)] for w in ways]
    return {
        "rates": torch.tensor(rates, dtype=torch.float64),
        "ways": torch.tensor(rows, dtype=torch.float64),
        "chosen": torch.tensor(ways.index(decision.way)),
    }


def _unpacked(tensors: Mapping[str, Tensor]) -> Decision:
    names, losses = list(OPERATORS), ("plain", "balanced")

    def known(value: float) -> float | None:
        return None if value != value else value

    rates = {
        name: Rates(row[0], row[1], known(row[2]))
        for name, row in zip(names, tensors["rates"].tolist(), strict=True)
        if row[0] == row[0]
    }
    ways = [(Way(names[int(i)], share, losses[int(j)]), score) for i, share, j, score in tensors["ways"].tolist()]
    return Decision(ways[int(tensors["chosen"])][0], rates, {way: score for way, score in ways if score == score})
