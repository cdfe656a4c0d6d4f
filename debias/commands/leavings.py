"""What a run leaves behind: tables, pictures and weights, as artifacts of the run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sacred.run import Run

from debias.data.preparation import Preparation
from debias.data.split import Split, Task
from debias.metrics import GroupMatrix
from debias.models.checkpoint import save_weights
from debias.stages.common.scores import ranks_for
from debias.stages.mining.property import ShortcutProperties
from debias.study.looks import looks_record, where_they_look
from debias.tracking import pictures as draw
from debias.training.artifacts import ConflictScore, TrainedBranches, TrainedModel, take
from debias.training.machine import pick_device
from debias.training.walk import Outcome

# Classes whose cells are drawn, and classes of which images are shown: pictures of more take minutes and gigabytes, and
# nobody can read them. Files have the numbers of all.
MOST_DRAWN, MOST_SHOWN = 100, 40


def leave(run: Run, outcome: Outcome, task: Task, pictures: bool = True) -> None:
    """Add tables, matrices and weights to the run, and pictures of them unless they are not wanted."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        matrices: dict[str, Any] = {}
        for stage, about in outcome.stages.items():
            for selection, counts in about.report.matrices.items():
                for name, pair in counts.items():
                    matrices.setdefault(stage, {}).setdefault(selection, {})[name] = pair.tolist()
        _attach(run, folder / "matrices.json", json.dumps(matrices))
        if pictures:
            _leave_pictures(run, folder, outcome, task)
            _leave_heat(run, folder, outcome, task)
        found = outcome.artifacts
        if "conflict_score" in found:
            score = take(found, "conflict_score", ConflictScore)
            for path in draw.write_suspects(folder, task, score, sheet=pictures):
                run.add_artifact(path)
        branches = take(found, "branches", TrainedBranches) if "branches" in found else None
        model = take(found, "model", TrainedModel) if "model" in found else None
        save_weights(folder / "weights.safetensors", branches, model, about=about_weights(run, task))
        run.add_artifact(folder / "weights.safetensors")


def _leave_pictures(run: Run, folder: Path, outcome: Outcome, task: Task) -> None:
    """Curves and last matrices of every stage, and examples of training images."""
    for stage, about in outcome.stages.items():
        report = about.report
        if report.history:
            _leave_curves(run, folder, stage, report.history)
            for path in draw.plot_information(folder, stage, report.history):
                run.add_artifact(path)
        for name, pair in report.matrices.get("last", {}).items():
            leave_matrix(run, folder, task, name, f"{stage}, last", GroupMatrix.from_counts(pair, task.ties))
            _leave_confusion(run, folder, task, name, stage, report.predictions["last"][name])
    chosen = examples(task, task.train)
    draw.plot_images(
        task.train.shown[chosen],
        [task.target_names[i] for i in task.train.target[chosen].tolist()],
        title=f"{task.name}: training images"
        + (", the last ones conflicting" if any_conflicting(task, task.train) else ""),
        path=folder / "examples.png",
    )
    run.add_artifact(folder / "examples.png")


def _leave_heat(run: Run, folder: Path, outcome: Outcome, task: Task) -> None:
    """Where the network that was biased on purpose looks, and where the final one, of a run that has both."""
    found = outcome.artifacts
    if not {"shortcut", "model", "conflict_score"} <= found.keys():
        return
    models = {"biased": take(found, "shortcut", TrainedModel), "final": take(found, "model", TrainedModel)}
    ranks = ranks_for(take(found, "conflict_score", ConflictScore), task.train, "heat").cpu()
    names = take(found, "properties", ShortcutProperties).names if "properties" in found else ()
    first = torch.argsort(ranks, descending=True, stable=True)[:MOST_SHOWN]
    looks = where_they_look(models, task, first, tuple(names), run.config, pick_device(run.config["device"]))
    run.info["heat"] = looks_record(looks)
    if looks.heat:
        path = folder / "heat.png"
        draw.plot_heat(looks, task.target_names, title=f"{task.name}: where the models look", path=path)
        run.add_artifact(path)


def about_weights(run: Run, task: Task) -> dict[str, str]:
    """What a file of weights says of itself, for whoever is given it: data, classes, preparation, features."""
    chosen = ("dataset", "method", "skew", "severity", "seed", "reverse")
    about = {name: str(run.config[name]) for name in chosen if name in run.config}
    preparation = task.preparation or Preparation(task.picture_shape[1], "stretch")
    return about | {
        "classes": json.dumps(task.target_names),
        "preparation": json.dumps(preparation.as_dict()),
        "normalise": json.dumps(None if task.mean is None else {"mean": task.mean, "std": task.std}),
        **({} if task.features is None else {"features": json.dumps(dict(task.features))}),
    }


def any_conflicting(task: Task, split: Split) -> bool:
    """Whether the bias is known to go against the target in any image."""
    conflicting = task.conflicting(split)
    return conflicting is not None and bool(conflicting.any())


def examples(task: Task, split: Split, each: int = 10, conflicting: int = 3) -> torch.Tensor:
    """`each` images of every target, target by target; the last few are conflicting ones where these are known."""
    places = []
    conflicting_ones = task.conflicting(split)
    against = torch.zeros_like(split.target, dtype=torch.bool) if conflicting_ones is None else conflicting_ones
    for label in split.target.unique()[:MOST_SHOWN]:
        own = split.target == label
        some = torch.nonzero(own & against).flatten()[:conflicting]
        places += [torch.nonzero(own & ~against).flatten()[: each - len(some)], some]
    return torch.cat(places)


def _leave_curves(run: Run, folder: Path, stage: str, history: Sequence[Mapping[str, float]]) -> None:
    accuracy = accuracy_series(history)
    if accuracy:
        path = folder / f"{stage}-accuracy.png"
        draw.plot_curves(accuracy, title=f"{stage}: accuracy on each set", ylabel="%", path=path)
        run.add_artifact(path)
    for figure in ("unbiased", "conflicting", "aligned", "average"):
        series = {
            name.rsplit("/", 1)[0]: [(row["epoch"], row[name]) for row in history if name in row]
            for name in history[-1]
            if name.endswith(f"/{figure}")
        }
        if series and not (figure == "average" and any(name.endswith("/unbiased") for name in history[-1])):
            path = folder / f"{stage}-{figure}.png"
            draw.plot_curves(series, title=f"{stage}: {figure} test accuracy", ylabel="%", path=path, reference=None)
            run.add_artifact(path)


def accuracy_series(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Plain accuracy in training, on held-out images and on every test set, as curves; empty without the first."""
    ends = {"train/accuracy": "training"} | {
        name: name.removesuffix("/average").replace("/", " ") for name in history[-1] if name.endswith("/average")
    }
    if "train/accuracy" not in history[-1]:
        return {}
    return {label: [(row["epoch"], row[name]) for row in history if name in row] for name, label in ends.items()}


def _leave_confusion(run: Run, folder: Path, task: Task, read_out: str, stage: str, predictions: torch.Tensor) -> None:
    """Target x prediction, with the colours that the classes are tied to where the bias is a colour."""
    if task.n_targets > MOST_DRAWN:
        return
    coloured = task.bias_colours is not None and len(task.bias_colours) == task.n_targets
    path = draw.plot_confusion(
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


def leave_matrix(run: Run, folder: Path, task: Task, read_out: str, what: str, matrix: GroupMatrix) -> None:
    if max(matrix.counts.shape) > MOST_DRAWN:
        return
    path = folder / f"matrix-{what.split(',')[0]}-{read_out}.png"
    draw.plot_matrix(
        matrix,
        target_names=task.target_names,
        bias_names=task.bias_names if task.bias_names and matrix.has_bias else ("all",),
        bias_colours=task.bias_colours.numpy() if task.bias_colours is not None and matrix.has_bias else None,
        title=f"{read_out} ({what})",
        path=path,
    )
    run.add_artifact(path)
