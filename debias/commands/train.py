"""The command that trains: it drives the stages of a recipe and records their figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from sacred.run import Run

from debias.commands.common import about_data, chosen_features, load_data, prepare, say_where
from debias.commands.console import figures_table, other_figures, say, show
from debias.commands.leavings import leave
from debias.commands.replicas import train_at_once
from debias.data.cache import noting
from debias.data.split import Task
from debias.errors import UserError
from debias.stages.recipes import final_stage, stages_of
from debias.tracking.folders import main_figure
from debias.tracking.observers import check_kept
from debias.tracking.overview import check_bias_labels, overview
from debias.tracking.scalars import also_written, tell_listener
from debias.training.machine import device_name, pick_device
from debias.training.store import Store
from debias.training.walk import imagenet_weights, run_stages


def train_recipe(run: Run, last: str | None) -> float | None:
    """Run the recipe up to the stage `last`, record everything, and give the result in percent.

    The result is the unbiased accuracy of the final model at the last epoch; without bias labels its accuracy.
    """
    settings = prepare(run)
    stages = stages_of(settings["method"], last, settings["dataset"])
    if (line := chosen_features(run)) is not None:
        say(line)
    device = pick_device(settings["device"])
    # Before the data, which may take a while to build.
    imagenet_weights(stages, settings)
    store = Store(Path(settings["store"]) / "stages")
    if settings["replicas"] > 1:
        train_at_once(stages, settings, device, store, load_data)
        # What has just been computed is not computed again.
        settings["fresh"] = False
    with noting() as cached:
        task = load_data(settings, command="train", stages=stages)
    check_bias_labels(task, stages, settings["method"])
    _describe(task, settings, device)
    run.info["data"] = about_data(task, settings) | {"cached": sorted(cached)}
    final = final_stage(stages)
    if final is None and last is None:
        raise UserError(f"method={settings['method']}: none of its stages trains, so there is nothing to measure")
    if final is not None:
        run.info["final"] = {"stage": final.name, "read_out": final.read_outs[0]}

    def record(name: str, value: float, epoch: int) -> None:
        run.log_scalar(name, float(value), int(epoch))
        tell_listener(name, float(value), int(epoch))

    # Stages that were begun belong to a run that does not come to its end, too (`results.py clean`).
    run.info["begun"] = {}

    def begin(stage: str, key: str) -> None:
        # Another dict each time: Sacred's timer may be writing the one before.
        run.info["begun"] = {**run.info["begun"], stage: key}

    wanted = {"csv_file": settings["csv_metrics"], "tensorboard": settings["tensorboard"]}
    with also_written(record, _folder(run), **wanted) as log:
        outcome = run_stages(
            stages, task, settings, device, store,
            log=log, say=say, progress=settings["progress"], begun=begin,
        )  # fmt: skip
    run.info["summary"] = {name: float(value) for name, value in outcome.summary.items()}
    run.info["stages"] = {
        name: {
            "key": about.key,
            "reused": about.reused,
            "seconds": about.seconds,
            "needs_bias_labels": about.needs_bias_labels,
            "speed": about.report.speed,
            "replicas": about.report.replicas,
            "nondeterministic": list(about.report.nondeterministic),
            "starts": about.report.starts,
        }
        | ({"operator": dict(about.report.operator)} if about.report.operator else {})
        for name, about in outcome.stages.items()
    }
    del run.info["begun"]
    # Figures of a model whose training images were changed on purpose are not figures of the method alone.
    changed = [about.report.augmentation for about in outcome.stages.values() if about.report.augmentation]
    if changed:
        run.info["augmentation"] = ", ".join(changed)
    run.info["device"] = device_name(device)
    # On this device, with as many threads of a CPU: as far as torch knows of its operations.
    run.info["repeatable"] = not any(about["nondeterministic"] for about in run.info["stages"].values())
    leave(run, outcome, task, pictures=settings["pictures"])
    check_kept(run)
    show(
        figures_table(
            outcome.summary, f"{settings['method']} on {task.name}, seed {settings['seed']}: test accuracy, %"
        )
    )
    show(*(Text(line) for line in other_figures(outcome.summary)))
    say_where(run)
    return main_figure(outcome.summary, final.read_outs[0]) if final is not None else None


def _folder(run: Run) -> Path | None:
    """The run's own folder; None for a run that is not recorded."""
    folders = [observer.dir for observer in run.observers if getattr(observer, "dir", None)]
    return Path(folders[0]) if folders else None


def _describe(task: Task, settings: Mapping[str, Any], device: torch.device) -> None:
    share = ""
    conflicting = task.conflicting(task.train)
    if conflicting is not None:
        share = f", {100 * float(conflicting.float().mean()):.2f} % conflicting"
    if task.files is not None:
        show(*overview(task))
    say(f"{task.n_targets} classes{share}; method {settings['method']}; seed {settings['seed']}; {device_name(device)}")
