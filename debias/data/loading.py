"""The way from settings to a `Task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from debias.data.cache import key_of
from debias.data.registry import DATASETS, available
from debias.data.settings import complete
from debias.data.split import Task, hold_out
from debias.errors import UserError
from debias.settings import nearest


def load_task(settings: Mapping[str, Any]) -> Task:
    """Load the data set that `settings` describe, from the cache where it was built before.

    settings : mapping with at least dataset and seed; those of `data.settings` that it leaves out are the data set's
        defaults. `threads` and `progress` are of decoding.

    Tensors are on the CPU.

    Raises
    ------
    UserError
        An unknown data set, a setting out of range, sources missing or damaged, an unwritable cache.
    """
    name = settings["dataset"]
    if name not in DATASETS:
        raise UserError(f"dataset={name!r} is unknown{nearest(str(name), DATASETS)}; available: {available()}")
    spec, settings = DATASETS[name], complete(settings)
    task = _augmented(spec.load(settings), settings["augment"] or spec.augment)
    fraction, seed = settings["valid_fraction"], settings["seed"]
    if fraction == 0 or task.valid is not None:
        return task
    train, valid = hold_out(task.train, fraction, seed)
    key = key_of(data=task.key, valid_fraction=fraction, seed=seed)
    return replace(task, train=train, valid=valid, key=key, selection="valid")


def _augmented(task: Task, augment: str | None) -> Task:
    """The task with an augmentation of its training batches."""
    if augment in (None, "none"):
        return task
    return replace(task, augment=augment, key=key_of(data=task.key, augment=augment))
