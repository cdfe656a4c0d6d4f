"""The way from settings to a `Task` whose images are, where that is asked for, features of a pretrained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debias.data.augment import VIEWS as ANY_VIEW
from debias.data.cache import key_of
from debias.data.loading import load_task as load_images
from debias.data.photos.decode import cores
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.features.embed import embedded
from debias.features.source import Source, find_source
from debias.models.onfeatures import EARLY, TRAINED
from debias.training.machine import pick_device

NONE, AUTO = "none", "auto"
# Of a deviation of one feature, the least share of the mean one: features that hardly ever fire are not blown up.
_LEAST = 0.05


def load_inputs(settings: Mapping[str, Any]) -> Task:
    """`data.loading.load_task`, with features in place of images where the setting `features` names a network.

    Raises
    ------
    UserError
        As there; no such network, or its weights are not there; a chosen augmentation that is of images.
    """
    if settings.get("features", NONE) == NONE:
        return load_images(settings)
    source = find_source(settings["features"], settings["data_dir"], settings["cache_dir"])
    if settings["augment"] not in (None, NONE, ANY_VIEW):
        raise UserError(
            f"augment={settings['augment']} changes images, and features={settings['features']} are made once; set "
            f"augment={ANY_VIEW} or none, or features=none"
        )
    views = 1 if settings["augment"] == NONE else settings["feature_views"]
    task = load_images({**settings, "augment": NONE})
    workers = settings.get("threads") or cores()
    return with_features(
        task, source, views, settings["cache_dir"], pick_device(settings["device"]),
        workers=workers, progress=settings.get("progress", True),
    )  # fmt: skip


def with_features(
    task: Task,
    source: Source,
    views: int,
    cache_dir: str,
    device: torch.device,
    *,
    workers: int = 1,
    progress: bool = True,
) -> Task:
    """A task of images with features in their place, float16 [N, V, D]; they are normalised by the training images'.

    Errors as of `features.embed.embedded`.
    """
    splits = {"train": task.train, "test": task.test, **({} if task.valid is None else {"valid": task.valid})}
    splits |= {f"@{name}": split for name, split in task.extra_tests.items()}
    stacks = embedded(
        [split.images for split in splits.values()], source, views, cache_dir, device,
        workers=workers, title=f"{task.name}: features", progress=progress,
    )  # fmt: skip
    made = {name: _on_features(split, stack) for (name, split), stack in zip(splits.items(), stacks, strict=True)}
    mean, std = moments(made["train"].images)
    if source.network in TRAINED:
        # The last block takes what comes before it as it is.
        block = len(mean) - EARLY
        mean, std = (0.0,) * block + mean[block:], (1.0,) * block + std[block:]
    about = source.about(views)
    return replace(
        task,
        train=made["train"],
        test=made["test"],
        valid=made.get("valid"),
        extra_tests={name: made[f"@{name}"] for name in task.extra_tests},
        key=key_of(data=task.key, **about),
        mean=mean,
        std=std,
        augment=ANY_VIEW if views > 1 else None,
        features={**about, "file": str(source.file.absolute())},
        notes=(*task.notes, f"features: {source.words}, {views} {'view' if views == 1 else 'views'} of each image"),
    )


def _on_features(split: Split, stack: Tensor) -> Split:
    return Split(stack, split.target, split.bias, split.ids, split.vector, split.images)


def moments(features: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each feature of float16 [N, V, D] over all views, the same to the last bit every time."""
    rows = features.flatten(0, 1).numpy().astype(np.float64)
    mean, std = rows.mean(0), rows.std(0)
    std = np.maximum(std, _LEAST * max(float(std.mean()), 1e-6))
    return tuple(mean.tolist()), tuple(std.tolist())
