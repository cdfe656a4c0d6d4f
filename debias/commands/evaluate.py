"""The full table of stored weights."""

import tempfile
from dataclasses import replace
from pathlib import Path

from sacred.run import Run

from debias.commands.common import load_data, prepare, say_where
from debias.commands.console import figures_table, show
from debias.commands.leavings import leave_matrix
from debias.commands.weights import as_trained, described_weights, prepared_as
from debias.models.checkpoint import load_read_outs
from debias.tracking.folders import likely_read_out, main_figure
from debias.tracking.observers import check_kept
from debias.training.evaluation import evaluate_on_tests
from debias.training.machine import device_name, pick_device


def evaluate_checkpoint(run: Run) -> float | None:
    """The full table of stored weights on the test set; the result in percent."""
    settings = prepare(run)
    path = Path(settings["checkpoint"])
    device = pick_device(settings["device"])
    about = described_weights(path)
    settings = prepared_as(settings, about, path)
    task = as_trained(load_data(settings, command="evaluate"), about, path)
    model, read_outs = load_read_outs(path, task.image_shape, task.n_targets, task.vector_size)
    model.to(device)
    extra = {name: split.to(device) for name, split in task.extra_tests.items()}
    found = evaluate_on_tests(model, read_outs, replace(task, test=task.test.to(device), extra_tests=extra))
    summary = {f"{name}/{figure}/given": value for name, one in found.items() for figure, value in one.figures.items()}
    run.info["summary"] = summary
    run.info["device"] = device_name(device)
    with tempfile.TemporaryDirectory() as folder:
        for name, one in found.items():
            leave_matrix(run, Path(folder), task, name, "given", one.matrix)
    show(figures_table(summary, f"{path.name} on {task.name}: test accuracy, %"))
    check_kept(run)
    say_where(run)
    return main_figure(summary, likely_read_out(summary))
