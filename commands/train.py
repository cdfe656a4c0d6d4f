"""What a run does and leaves behind: it drives the stages, and writes metrics, tables, pictures and weights."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from sacred.run import Run

from commands.console import figures_table, other_figures, say, show
from commands.replicas import train_at_once
from config import resolve
from data.photos.decode import Preparation
from data.registry import DATASETS, load_task
from data.split import Split, Task
from errors import UserError
from metrics import GroupMatrix
from models.checkpoint import load_read_outs, save_weights
from stages.recipes import final_stage, stages_of
from tracking.folders import likely_read_out, main_figure
from tracking.mongo.address import Address
from tracking.overview import check_bias_labels, overview
from tracking.pictures.information import plot_information
from tracking.pictures.matrices import plot_confusion, plot_matrix
from tracking.pictures.plots import plot_curves, plot_images
from tracking.pictures.suspects import write_suspects
from tracking.scalars import also_written, tell_listener
from training.evaluation import matrices_on_tests
from training.machine import device_name, pick_device, prepare_cpu
from training.store import Store
from training.walk import Outcome, imagenet_weights, run_stages


def train_recipe(run: Run, last: str | None) -> float | None:
    """Run the recipe up to the stage `last`, record everything, and give the result in percent.

    The result is the unbiased accuracy of the final model at the last epoch; without bias labels its accuracy.
    """
    settings = prepare(run)
    stages = stages_of(settings["method"], last, settings["dataset"])
    device = pick_device(settings["device"])
    # Before the data, which may take a while to build.
    imagenet_weights(stages, settings)
    store = Store(Path(settings["store"]) / "stages")
    if settings["replicas"] > 1:
        train_at_once(stages, settings, device, store, load_data)
        # What has just been computed is not computed anew.
        settings["fresh"] = False
    task = load_data(settings)
    check_bias_labels(task, stages, settings["method"])
    _describe(task, settings, device)
    run.info["data"] = about_data(task, settings)
    final = final_stage(stages)
    if final is not None:
        run.info["final"] = {"stage": final.name, "read_out": final.read_outs[0]}

    def record(name: str, value: float, epoch: int) -> None:
        run.log_scalar(name, float(value), int(epoch))
        tell_listener(name, float(value), int(epoch))

    wanted = {"csv_file": settings["csv_metrics"], "tensorboard": settings["tensorboard"]}
    with also_written(record, _folder(run), **wanted) as log:
        outcome = run_stages(stages, task, settings, device, store, log=log, say=say, progress=settings["progress"])
    run.info["summary"] = {name: float(value) for name, value in outcome.summary.items()}
    run.info["stages"] = {
        name: {key: about[key] for key in ("key", "reused", "seconds", "needs_bias_labels")}
        | {
            key: about["report"].get(key, default)
            for key, default in (("speed", {}), ("replicas", 1), ("nondeterministic", []))
        }
        for name, about in outcome.stages.items()
    }
    run.info["device"] = device_name(device)
    # On this device, with as many threads of a CPU: as far as torch knows of its operations.
    run.info["repeatable"] = not any(about["nondeterministic"] for about in run.info["stages"].values())
    _leave(run, outcome, task)
    show(
        figures_table(
            outcome.summary, f"{settings['method']} on {task.name}, seed {settings['seed']}: test accuracy, %"
        )
    )
    show(*(Text(line) for line in other_figures(outcome.summary)))
    say_where(run)
    return main_figure(outcome.summary, final.read_outs[0]) if final is not None else None


def evaluate_checkpoint(run: Run) -> float | None:
    """The full table of stored weights on the test set; the result in percent."""
    settings = prepare(run)
    path = Path(settings["checkpoint"])
    device = pick_device(settings["device"])
    task = load_data(settings)
    model, read_outs = load_read_outs(path, task.image_shape, task.n_targets, task.vector_size)
    model.to(device)
    extra = {name: split.to(device) for name, split in task.extra_tests.items()}
    matrices = matrices_on_tests(model, read_outs, replace(task, test=task.test.to(device), extra_tests=extra))
    summary = {
        f"{name}/{figure}/given": value
        for name, matrix in matrices.items()
        for figure, value in matrix.figures().items()
    }
    run.info["summary"] = summary
    run.info["device"] = device_name(device)
    with tempfile.TemporaryDirectory() as folder:
        for name, matrix in matrices.items():
            _leave_matrix(run, Path(folder), task, name, "given", matrix)
    show(figures_table(summary, f"{path.name} on {task.name}: test accuracy, %"))
    say_where(run)
    return main_figure(summary, likely_read_out(summary))


def _folder(run: Run) -> Path | None:
    """The run's own folder; None for a run that is not recorded."""
    folders = [observer.dir for observer in run.observers if getattr(observer, "dir", None)]
    return Path(folders[0]) if folders else None


def sync_runs(config: Mapping[str, Any], address: Address | None) -> None:
    """Bring every run of the store into a database, and say how many there are."""
    if address is None:
        raise UserError("sync: which database? Set mongo_url=mongodb://host:port/database or the variable MONGO_URL")
    from tracking.mongo.sync import bring_all

    limit = int(config["mongo_file_mb"] * 2**20)
    total, new, damaged = bring_all(address, Path(config["store"]), limit, config["progress"])
    show(Text(f"{total} runs of {config['store']} are in {address}; {new} of them had something new"))
    for folder in damaged:
        say(f"passed over, as its files are damaged: {folder}")


def prepare(run: Run) -> dict[str, Any]:
    """The run's settings, checked, with the CPU set up as they say."""
    settings = resolve(run.config)
    prepare_cpu(settings["threads"])
    return settings


def load_data(settings: Mapping[str, Any]) -> Task:
    """The data set, and a line that says how large it is."""
    started = time.monotonic()
    task = load_task(settings)
    seconds = time.monotonic() - started
    say(f"{task.name}: {len(task.train)} training and {len(task.test)} test images in {seconds:.1f} s")
    return task


def _describe(task: Task, settings: Mapping[str, Any], device: torch.device) -> None:
    share = ""
    if task.train.bias is not None:
        share = f", {100 * float((task.train.bias != task.train.target).float().mean()):.2f} % conflicting"
    if task.files is not None:
        show(*overview(task))
    say(f"{task.n_targets} classes{share}; method {settings['method']}; seed {settings['seed']}; {device_name(device)}")


def about_data(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tables need to know of a run's data.

    conflicting : share of conflicting training images: as chosen by `skew` or, where nothing chooses it, as measured;
        None where there are no bias labels. content, folder : digest and name of images that a user brought.
    """
    about: dict[str, Any] = {"conflicting": None}
    if DATASETS[settings["dataset"]].has_skew:
        about["conflicting"] = settings["skew"]
    elif task.train.bias is not None:
        about["conflicting"] = round(float((task.train.bias != task.train.target).float().mean()), 4)
    if task.content is not None:
        about["content"] = task.content
    if settings["data_dir"] is not None and settings["dataset"] == "own_images":
        about["folder"] = Path(settings["data_dir"]).resolve().name
    return about


def _leave(run: Run, outcome: Outcome, task: Task) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        matrices: dict[str, Any] = {}
        for stage, about in outcome.stages.items():
            report = about["report"]
            if report["history"]:
                _leave_curves(run, folder, stage, report["history"])
                for path in plot_information(folder, stage, report["history"]):
                    run.add_artifact(path)
            for selection, counts in report["matrices"].items():
                for name, pair in counts.items():
                    matrices.setdefault(stage, {}).setdefault(selection, {})[name] = pair.tolist()
                    matrix = GroupMatrix.from_counts(pair)
                    if selection == "last":
                        _leave_matrix(run, folder, task, name, f"{stage}, {selection}", matrix)
                        _leave_confusion(run, folder, task, name, stage, report["predictions"][selection][name])
        _attach(run, folder / "matrices.json", json.dumps(matrices))
        chosen = examples(task.train)
        plot_images(
            task.train.images[chosen],
            [task.target_names[i] for i in task.train.target[chosen].tolist()],
            title=f"{task.name}: training images"
            + (", the last ones conflicting" if any_conflicting(task.train) else ""),
            path=folder / "examples.png",
        )
        run.add_artifact(folder / "examples.png")
        if "conflict_score" in outcome.artifacts:
            for path in write_suspects(folder, task, outcome.artifacts["conflict_score"]):
                run.add_artifact(path)
        save_weights(folder / "weights.safetensors", outcome.artifacts, about=_about(run, task))
        run.add_artifact(folder / "weights.safetensors")


def _about(run: Run, task: Task) -> dict[str, str]:
    chosen = ("dataset", "method", "skew", "severity", "seed", "reverse")
    about = {name: str(run.config[name]) for name in chosen}
    preparation = task.preparation or Preparation(task.image_shape[1], "stretch")
    return about | {
        "classes": json.dumps(task.target_names),
        "preparation": json.dumps(preparation.as_dict()),
        "normalise": json.dumps(None if task.mean is None else {"mean": task.mean, "std": task.std}),
    }


def any_conflicting(split: Split) -> bool:
    """Whether bias labels are known and go against the target in any image."""
    return split.bias is not None and bool((split.bias != split.target).any())


def examples(split: Split, each: int = 10, conflicting: int = 3) -> torch.Tensor:
    """`each` images of every target, target by target; where bias labels exist the last few are conflicting ones."""
    places = []
    against = torch.zeros_like(split.target, dtype=torch.bool) if split.bias is None else split.bias != split.target
    for label in split.target.unique():
        own = split.target == label
        some = torch.nonzero(own & against).flatten()[:conflicting]
        places += [torch.nonzero(own & ~against).flatten()[: each - len(some)], some]
    return torch.cat(places)


def _leave_curves(run: Run, folder: Path, stage: str, history: list[dict[str, float]]) -> None:
    accuracy = accuracy_series(history)
    if accuracy:
        path = folder / f"{stage}-accuracy.png"
        plot_curves(accuracy, title=f"{stage}: accuracy on each set", ylabel="%", path=path)
        run.add_artifact(path)
    for figure in ("unbiased", "conflicting", "aligned", "average"):
        series = {
            name.rsplit("/", 1)[0]: [(row["epoch"], row[name]) for row in history if name in row]
            for name in history[-1]
            if name.endswith(f"/{figure}")
        }
        if series and not (figure == "average" and any(name.endswith("/unbiased") for name in history[-1])):
            path = folder / f"{stage}-{figure}.png"
            plot_curves(series, title=f"{stage}: {figure} test accuracy", ylabel="%", path=path, reference=None)
            run.add_artifact(path)


def accuracy_series(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Plain accuracy in training, on held-out images and on every test set, as curves; empty without the first."""
    ends = {"train/accuracy": "training"} | {
        name: name.removesuffix("/average").replace("/", " ") for name in history[-1] if name.endswith("/average")
    }
    if "train/accuracy" not in history[-1]:
        return {}
    return {label: [(row["epoch"], row[name]) for row in history if name in row] for name, label in ends.items()}


def _leave_matrix(run: Run, folder: Path, task: Task, read_out: str, what: str, matrix: GroupMatrix) -> None:
    path = folder / f"matrix-{what.split(',')[0]}-{read_out}.png"
    plot_matrix(
        matrix,
        target_names=task.target_names,
        bias_names=task.bias_names if task.bias_names and matrix.has_bias else ("all",),
        bias_colours=task.bias_colours.numpy() if task.bias_colours is not None and matrix.has_bias else None,
        title=f"{read_out} ({what})",
        path=path,
    )
    run.add_artifact(path)


def _leave_confusion(run: Run, folder: Path, task: Task, read_out: str, stage: str, predictions: torch.Tensor) -> None:
    """Target x prediction, with the colours that the classes are tied to where the bias is a colour."""
    coloured = task.bias_colours is not None and len(task.bias_colours) == task.n_targets
    path = plot_confusion(
        predictions.sum(dim=1).numpy(),
        class_names=task.target_names,
        class_colours=task.bias_colours.numpy() if coloured and task.bias_colours is not None else None,
        title=f"{read_out} ({stage}, last)",
        path=folder / f"confusion-{stage}-{read_out}.png",
    )
    run.add_artifact(path)


def _attach(run: Run, path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    run.add_artifact(path)


def say_where(run: Run) -> None:
    """A line with the folder that the run left."""
    for observer in run.observers:
        if getattr(observer, "dir", None):
            say(f"run folder: {observer.dir}")
