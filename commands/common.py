"""What all commands do: settings resolved, data loaded, and a line that says where the run is."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sacred.run import Run

from catalogue import roles_in
from commands.console import say
from commands.unused import say_unused
from config import resolve
from data.loading import load_task
from data.split import Task
from training.machine import prepare_cpu
from training.stage import Stage


def prepare(run: Run) -> dict[str, Any]:
    """The run's settings, checked, with the CPU set up as they say."""
    settings = resolve(run.config)
    run.info["settings"] = roles_in(run.config)
    prepare_cpu(settings["threads"])
    return settings


def load_data(settings: Mapping[str, Any], *, command: str = "", stages: Sequence[Stage] = ()) -> Task:
    """The data set, and a line that says how large it is; for a `command`, one that names settings it does not use."""
    started = time.monotonic()
    if command:
        say_unused(settings, stages, command)
    task = load_task(settings)
    seconds = time.monotonic() - started
    say(f"{task.name}: {len(task.train)} training and {len(task.test)} test images in {seconds:.1f} s")
    return task


def say_where(run: Run) -> None:
    """A line with the folder that the run left."""
    for observer in run.observers:
        if getattr(observer, "dir", None):
            say(f"run folder: {observer.dir}")
