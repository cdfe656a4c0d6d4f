"""Stored weights and the data they are measured on: what must be the same, and what is said where it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from debias.commands.console import say
from debias.data.preparation import Preparation
from debias.data.split import Task
from debias.errors import UserError
from debias.features.choice import source_of
from debias.features.loading import NONE
from debias.models.checkpoint import read_description
from debias.models.description import Description

_SHOWN = 10


def described_weights(path: Path) -> Description | None:
    """What a file of weights says of itself; None for files of the authors' release, which say nothing.

    Raises
    ------
    UserError
        A file that is missing, damaged, or of an unknown kind.
    """
    return read_description(path) if path.suffix == ".safetensors" else None


def prepared_as(settings: Mapping[str, Any], about: Description | None, path: Path) -> dict[str, Any]:
    """Settings under which photographs become the features that the weights in `path` were trained on.

    Raises
    ------
    UserError
        The settings name other features, or none: figures would be of other inputs than those it was trained on.
    """
    trained, asked = None if about is None else about.features, settings["features"]
    if trained is None:
        if asked != NONE and about is not None:
            raise UserError(f"checkpoint={path}: was trained on images, not on features: set features={NONE}")
        return dict(settings)
    assert about is not None
    if asked == NONE:
        raise UserError(f"checkpoint={path}: was trained on features of {trained['network']}: leave `features` out")
    source_of(trained, asked, settings["data_dir"], settings["cache_dir"])
    preparation = about.preparation or {}
    own = {"image_size": preparation.get("size"), "framing": preparation.get("framing")}
    # Of features of images of another size nothing would tell that they are others.
    return {**settings, **{name: value for name, value in own.items() if value is not None}}


def as_trained(task: Task, about: Description | None, path: Path) -> Task:
    """The task with images normalised as those that the weights were trained on; lines about what else differs.

    Raises
    ------
    UserError
        The classes are others, or in another order: figures would compare things that are not the same.
    """
    if about is None:
        return task
    if about.classes is not None:
        _check_classes(task, about.classes, path)
    preparation = task.preparation
    if about.preparation is not None and preparation is not None:
        trained = Preparation(**about.preparation)
        if trained.size == preparation.size and trained != preparation:
            say(
                f"{path.name} was trained on images prepared with {_words(trained)}, and is measured on images "
                f"prepared with {_words(preparation)}" + _remedy(task, trained)
            )
    if not about.says_normalise:
        return task
    mean, std = (_channels(about.normalise, name) for name in ("mean", "std"))
    if (mean, std) != (task.mean, task.std):
        say(f"images are normalised as {path.name} was trained, with other numbers than those of {task.name}")
        return replace(task, mean=mean, std=std)
    return task


def _check_classes(task: Task, classes: tuple[str, ...], path: Path) -> None:
    if classes == task.target_names:
        return
    gone = [name for name in classes if name not in task.target_names]
    new = [name for name in task.target_names if name not in classes]
    if not gone and not new:
        raise UserError(
            f"checkpoint={path}: its classes are in another order than those of {task.name}: {_some(classes)}, not "
            f"{_some(task.target_names)}"
        )
    said = [f"it knows {_some(gone)}, which {task.name} does not have"] if gone else []
    said += [f"{task.name} has {_some(new)}, which it does not know"] if new else []
    raise UserError(f"checkpoint={path}: made for other classes: {'; '.join(said)}")


def _channels(normalise: Mapping[str, Any] | None, name: str) -> tuple[float, ...] | None:
    return None if normalise is None else tuple(normalise[name])


def _words(preparation: Preparation) -> str:
    return f"framing={preparation.framing}" + (f" and margin {preparation.margin:g}" if preparation.margin != 1 else "")


def _remedy(task: Task, trained: Preparation) -> str:
    own = task.name == "own_images" and trained.margin == 1
    return f"; set framing={trained.framing} to measure it as it was trained" if own else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
