"""Take the shortcut away: train on images that are given the shortcut of others, by the operator that moves it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.batches import Batch
from debias.data.mapped import in_memory
from debias.data.operators import CONTROL, OPERATORS
from debias.data.properties.descriptors import DESCRIPTORS, image_properties
from debias.data.properties.looked_at import is_grey, reduced
from debias.data.properties.prediction import Predicted, predicted
from debias.data.properties.telling import ALONE, Effect, named_by
from debias.data.split import Split, stratified_choice
from debias.losses.reweight import bias_balanced, log_prior
from debias.models.branches import build_branches
from debias.randomness import stream
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import (
    fit_classifier,
    model_artifact,
    network_setting,
    new_classifier,
    stored_classifier,
    training_settings,
)
from debias.stages.common.moving import Mover, Rates, rates_of, right_under
from debias.stages.common.scores import labels_for
from debias.stages.common.ways import (
    ALIKE,
    FALLBACK,
    Decision,
    Trial,
    Way,
    asked_about,
    first_of_the_best,
    margin_of,
    packed,
    told,
    unpacked,
    variants,
    ways_to_try,
)
from debias.training.artifacts import BiasLabels, TrainedBranches, TrainedModel, take
from debias.training.job import Fitted, Loss
from debias.training.stage import Artifact, Context, Stage
from debias.training.store import StageFolder

SOME = 5.0  # percent of the answers, more than where nothing is moved
LOOKED_AT = 4000  # images in which a property that tells the class is looked for
ASKED = 2000  # images, at most, that a trial is asked about under each operator


class Transfer(Stage):
    """Train on T(x, z), an image x with one property of another image z that is drawn whatever the target of x.

    Where one property of the images alone tells the class, T is the operator that moves it. Else it is chosen by what a
    network that has learnt the shortcut answers on T(x, z): where its answers move along with z the shortcut is in that
    property. Of those that move it, and of training with nothing moved by the bias-balanced loss, short trials on a
    part of the training images choose: by what they get right of the other part, over cells of target and pseudo bias
    label, and under every operator that moves the shortcut and nothing else, the one that one property has named among
    them. The least of these counts, as a network without the shortcut does not mind what moves it; and only where one
    is better by more than chance. No bias label and no test image is read. Where nothing moved does better, that is
    what is done.
    """

    name = "transfer"
    summary = "train on images that are given the shortcut of others, by an operator chosen without bias labels"
    needs = ("shortcut", "bias")
    uses = ("branches",)
    gives = ("model",)
    read_outs = ("model",)
    takes_features = False
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
        most=Setting(4, "how many operators are tried, each of another property of images", low=1),
        trial_epochs=Setting(
            1, "passes of a trial over its part of the training images; a quarter of `epochs` where that is more", low=1
        ),
        trial_images=Setting(20000, "training images that a trial sees, at most", low=1),
        trial_fraction=Setting(0.2, "share of the training images on which trials are compared", low=0.01, high=0.5),
        epochs=Setting(20, "passes over the training images", low=1, quick=6),
        batch_size=Setting(256, "images in a training batch", low=2),
    )

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        labels = labels_for(take(inputs, "bias", BiasLabels), ctx.train, self.name)
        # Whoever goes on from a checkpoint does not decide again.
        begun = ctx.folder.load_checkpoint()
        decision = self._decide(inputs, labels, ctx) if begun is None else unpacked(begun.tensors)
        fitted, spec = train(decision.way, labels, ctx, tensors=packed(decision))
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
        properties = told_alone(ctx)
        named = telling(properties, rates)
        alone = "" if named is None else DESCRIPTORS[named.name].operator
        known = rates if named is None else without_content(rates, properties)
        ways = ways_to_try(known, own, alone)
        if ways == [FALLBACK] or len(ways) == 1 == len(variants(ways[0].operator, own)):
            decision = Decision(ways[0], rates, {})
        else:
            trials = Trials(labels, asked_about(known, own["least"], alone), ctx)
            tried = compared(ways, trials, own)
            decision = Decision(first_of_the_best(tried, trials.margin), rates, tried, trials.margin)
        for line in told(decision, own["least"], named):
            ctx.say(f"{self.name}: {line}")
        return decision


def told_alone(ctx: Context) -> list[Predicted]:
    """How well each property alone tells the targets, in up to `LOOKED_AT` training images of all classes, on the CPU.

    A CPU-GPU sync point.
    """
    train, classes = ctx.train, ctx.task.n_targets
    target = train.target.cpu()
    share = LOOKED_AT / len(target)
    if share < 1:
        train = train.subset(torch.nonzero(stratified_choice(target, share, stream(ctx.seed, "properties"))).flatten())
        target = train.target.cpu()
    images = reduced(in_memory(train.images)).cpu()
    return predicted(image_properties(images, is_grey(images)), target, classes, ctx.seed)


def telling(properties: Sequence[Predicted], rates: Mapping[str, Rates]) -> Predicted | None:
    """The property that alone tells the targets, where an operator moves it; None if none does."""
    # What moves nothing of a network that has learnt the shortcut is not the shortcut, however well it tells the class.
    nothing = rates[CONTROL].transferred if CONTROL in rates else 0.0
    effects = {
        name: Effect(rate.transferred / 100, rate.transferred / 100)
        for name, rate in rates.items()
        if rate.transferred > nothing + SOME
    }
    return named_by(properties, effects)


def without_content(rates: Mapping[str, Rates], properties: Sequence[Predicted]) -> dict[str, Rates]:
    """Rates without those of operators whose property does not tell the targets alone, where another one does.

    That they move answers says that a network sees what is shown by it, as frogs and aeroplanes by their colours.
    Operators without a property of their own are kept.
    """
    tells: dict[str, bool] = {}
    for one in properties:
        operator = DESCRIPTORS[one.name].operator
        tells[operator] = tells.get(operator, False) or one.beyond_low >= ALONE
    return {name: rate for name, rate in rates.items() if tells.get(name, True)}


def trial_passes(own: Mapping[str, Any]) -> int:
    """Passes of a trial: too short ones tell ways apart by chance."""
    return max(own["trial_epochs"], own["epochs"] // 4)


class Trials:
    """Short trainings on a part of the training images, compared by the others.

    All start from the same weights and see images in the same order.

    Parameters
    ----------
    labels
        Pseudo bias label of every training image, int64 [N].
    asked
        Operators under which the others are asked about, besides as they are.
    ctx
        The running stage's surroundings.
    """

    def __init__(self, labels: Tensor, asked: Sequence[str], ctx: Context) -> None:
        own, train_split, task = ctx.own, ctx.train, ctx.task
        cell = (train_split.target * task.n_targets + labels).cpu()
        left_out = stratified_choice(cell, own["trial_fraction"], stream(ctx.seed, f"{ctx.stage}/trials"))
        seen, unseen = (torch.nonzero(mask).flatten().to(ctx.device) for mask in (~left_out, left_out))
        # In the order of the data neighbours may be of one class.
        order = torch.randperm(len(seen), generator=stream(ctx.seed, f"{ctx.stage}/trial images"))
        seen = seen[order[: own["trial_images"]].to(ctx.device)]
        held_out: Split = replace(train_split.subset(unseen), bias=labels[unseen])
        # What a trial takes for its test set is what it leaves out, and its bias is the pseudo label.
        self._task = replace(
            task,
            train=train_split.subset(seen),
            test=held_out,
            valid=None,
            extra_tests={},
            bias_names=tuple(map(str, range(task.n_targets))),
        )
        order = torch.randperm(len(unseen), generator=stream(ctx.seed, f"{ctx.stage}/asked images"))
        self._asked_images = train_split.subset(unseen[order[:ASKED].to(ctx.device)])
        self._asked = {name: OPERATORS[name] for name in asked}
        self._labels, self._ctx, self._begun = labels[seen], ctx, 0
        # Where no cell is small, chance is not the only reason for small differences.
        self.margin = max(margin_of(torch.bincount(cell[left_out])), ALIKE)

    def of(self, way: Way) -> Trial:
        """The trial of one way."""
        ctx = self._ctx
        settings = {**ctx.own, "epochs": trial_passes(ctx.own), "steps": 0}
        trial = replace(
            ctx,
            task=self._task,
            settings={**ctx.settings, ctx.stage: settings},
            folder=StageFolder(ctx.folder.path / f"trial{self._begun}"),
            log=lambda name, value, epoch: None,
            progress=False,
            checkpoint_seconds=float("inf"),  # short, and done again after an interruption
            held_out_bias=None,
            together=None,
        )
        self._begun += 1
        fitted, spec = train(way, self._labels, trial)
        model = stored_classifier(ctx, model_artifact(spec, fitted, "model", ctx.stage))
        return Trial(fitted.history[-1]["model/unbiased"], right_under(self._asked, model, self._asked_images, ctx))


def compared(ways: Sequence[Way], trials: Trials, own: Mapping[str, Any]) -> dict[Way, Trial]:
    """The trials of all ways, and after the best of those with an operator also of its other variants."""
    tried = {way: trials.of(way) for way in ways}
    moved = {way: trial for way, trial in tried.items() if way != FALLBACK}
    if not moved:
        return tried
    best = first_of_the_best(moved, trials.margin)
    further = {way: trials.of(way) for way in variants(best.operator, own)[1:]}
    return {
        each: trial for way in ways for each, trial in ({way: tried[way]} | (further if way == best else {})).items()
    }


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
