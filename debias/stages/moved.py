"""Train on images, or on features of images, that have the shortcut of others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.data.augment import VIEWS
from debias.data.batches import Batch
from debias.data.mapped import in_memory
from debias.data.operators.base import Apply, Operator, moved
from debias.data.photos.decode import cores
from debias.data.properties.alone import operator_of
from debias.data.split import Split, Task, stratified_choice
from debias.features.choice import source_of
from debias.features.embed import embedded
from debias.randomness import stream
from debias.settings import Setting
from debias.stages.common.classifier import (
    fit_classifier,
    model_artifact,
    network_setting,
    new_classifier,
    training_settings,
)
from debias.stages.common.moving import Mover
from debias.stages.mining.property import ShortcutProperties
from debias.training.artifacts import take
from debias.training.stage import Artifact, Context, Stage


class Moved(Stage):
    """Cross-entropy on images x with the shortcut of others z, which are drawn whatever the class of x.

    The operators move the properties that `mine_property` has found. Networks that are given images get a new one
    each time. On features of a pretrained network every image is moved and embedded a few times beforehand. Where
    no property tells the class, this is plain cross-entropy on the images as they are.
    """

    name = "moved"
    summary = "cross-entropy on images, or their features, that are given the property of others which tells the class"
    needs = ("properties",)
    gives = ("model",)
    read_outs = ("model",)
    settings: ClassVar[Mapping[str, Setting]] = training_settings(
        network=network_setting(),
        copies=Setting(2, "features: how often each image is given the property of another", low=1),
        images=Setting(
            8000, "features: training images that are moved, at most; more take long to embed", low=2
        ),
        epochs=Setting(20, "passes over the training images", low=1, quick=6),
    )  # fmt: skip
    shared = ("optimiser",)

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        operator = operator_of(take(inputs, "properties", ShortcutProperties).names)
        named = bool(take(inputs, "properties", ShortcutProperties).names)
        mover = None
        if named and ctx.task.features is not None:
            ctx = replace(ctx, task=on_moved(ctx, operator))
        elif named:
            mover = Mover(operator, 1.0, ctx.task)
        if not named:
            ctx.say(f"{self.name}: nothing to move; trained on the images as they are")
        spec, model = new_classifier(ctx, ctx.own["network"], self.name)

        def loss(batch: Batch) -> Tensor:
            inputs = batch.images if mover is None else mover(batch.images, ctx.generator).images
            return cross_entropy(model(inputs), batch.target)

        fitted = fit_classifier(ctx, model, loss)
        report = replace(fitted.report(), augmentation=operator.name if named else "")
        return {"model": model_artifact(spec, fitted, "model", self.name), "report": report}


def on_moved(ctx: Context, operator: Operator) -> Task:
    """The task whose training images are features of moved images: `copies` views of each, and none as it is."""
    task, own, train = ctx.task, ctx.own, ctx.train
    share = own["images"] / len(train)
    if share < 1:
        chosen = stratified_choice(train.target.cpu(), share, stream(ctx.seed, "moved images"))
        train = train.subset(torch.nonzero(chosen).flatten())
    donors = donors_of(len(train), own["copies"], ctx.seed)
    features = moved_features(
        task, train, operator.taking_away, operator.where, donors, ctx.settings, ctx.device, progress=ctx.progress
    )
    features = features.to(ctx.device)
    split = Split(features, train.target, None, train.ids, None, train.shown)
    return replace(task, train=split, augment=VIEWS if own["copies"] > 1 else None)


def donors_of(images: int, copies: int, seed: int) -> list[Tensor]:
    """For each copy of so many images the place of every image's donor, int64 [N]."""
    return [torch.randint(images, (images,), generator=stream(seed, f"donors {number}")) for number in range(copies)]


def moved_features(
    task: Task,
    split: Split,
    apply: Apply,
    where: str,
    donors: Sequence[Tensor],
    settings: Mapping[str, Any],
    device: torch.device,
    progress: bool = True,
) -> Tensor:
    """Features float16 [N, copies, D] on the CPU of images that are given a property of others of them.

    task : on features; apply, where : of an operator, as it takes a property away or as it measures; donors : for each
    copy the place of every image's donor, int64 [N]; settings : of the run, among them data_dir, cache_dir, threads
    """
    assert task.features is not None
    images = in_memory(split.shown).cpu()
    stacks = [moved(apply, images, given) for given in donors]
    data_dir, cache_dir = settings.get("data_dir"), str(settings["cache_dir"])
    source = source_of(task.features, None, None if data_dir is None else str(data_dir), cache_dir)
    rows = embedded(
        stacks, source, 1, cache_dir, device,
        workers=settings.get("threads") or cores(), title=f"moved: {where}", progress=progress,
    )  # fmt: skip
    return torch.cat(rows, dim=1)
