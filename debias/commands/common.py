"""What all commands do: settings resolved, data loaded, and a line that says where the run is."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sacred.run import Run
from sacred.utils import iterate_flattened

from debias.catalogue import default_for, roles_in
from debias.commands.console import say
from debias.commands.unused import say_unused
from debias.config import NAMED_CONFIGS, choice_of, resolve
from debias.data.loading import load_task
from debias.data.registry import DATASETS
from debias.data.split import Task
from debias.features.loading import AUTO, load_inputs
from debias.training.machine import prepare_cpu
from debias.training.stage import Stage


def prepare(run: Run) -> dict[str, Any]:
    """The run's settings, checked, with the CPU set up as they say."""
    settings = resolve(run.config)
    run.info["settings"] = roles_in(run.config)
    prepare_cpu(settings["threads"])
    return settings


def load_data(
    settings: Mapping[str, Any], *, command: str = "", stages: Sequence[Stage] = (), images: bool = False
) -> Task:
    """The data set, and a line that says how large it is; for a `command`, one that names settings it does not use.

    images : whether they are wanted themselves, where features of them are set
    """
    started = time.monotonic()
    if command:
        say_unused(settings, stages, command)
    task = load_task(settings) if images else load_inputs(settings)
    seconds = time.monotonic() - started
    say(f"{task.name}: {len(task.train)} training and {len(task.test)} test images in {seconds:.1f} s")
    return task


def chosen_features(run: Run) -> str | None:
    """A line about the setting `features` of a run that left it to the program; None where nothing was to choose."""
    given = {"dataset": run.config["dataset"], **given_settings(run)}
    asked = given.get("features", default_for("features", None, given["dataset"]))
    return choice_of(given).line if asked == AUTO else None


def given_settings(run: Run) -> dict[str, Any]:
    """What the user said of a run's settings, by dotted path: named configs, then single values."""
    about, given = run.meta_info, dict[str, Any]()
    for name in about.get("named_configs", ()):
        given |= dict(iterate_flattened(next(group[name] for group in NAMED_CONFIGS.values() if name in group)))
    return given | dict(iterate_flattened(dict(about.get("config_updates", {}))))


def about_data(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tables and cards need to know of a run's data.

    conflicting : share of conflicting training images: as chosen by `skew` or, where nothing chooses it, as measured;
        None where it cannot be said. content, folder : digest and name of images that a user brought. weights : digest
        of the pretrained network's whose features (a setting) take their place. images : by part (train, valid, test)
        the images of each class, in the order of the classes. biases : names of the bias classes, where they are known.
    """
    about: dict[str, Any] = {"conflicting": None}
    if DATASETS[settings["dataset"]].has_skew:
        about["conflicting"] = settings["skew"]
    elif (conflicting := task.conflicting(task.train)) is not None:
        about["conflicting"] = round(float(conflicting.float().mean()), 4)
    if task.content is not None:
        about["content"] = task.content
    if task.features is not None:
        about["weights"] = str(task.features["digest"])
    if settings["data_dir"] is not None and settings["dataset"] == "own_images":
        about["folder"] = Path(settings["data_dir"]).resolve().name
    parts = {"train": task.train, "valid": task.valid, "test": task.test}
    about["images"] = {
        name: torch.bincount(part.target.cpu(), minlength=task.n_targets).tolist()
        for name, part in parts.items()
        if part is not None
    }
    if task.bias_names is not None and task.test.bias is not None:
        about["biases"] = list(task.bias_names)
    return about


def say_where(run: Run) -> None:
    """A line with the folder that the run left."""
    for observer in run.observers:
        if getattr(observer, "dir", None):
            say(f"run folder: {observer.dir}")
