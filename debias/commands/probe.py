"""The command `probe`: what a linear classifier reads off the frozen features of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text
from sacred.run import Run

from debias.commands.common import load_data, prepare, say_where
from debias.commands.console import say, show
from debias.commands.weights import as_trained, described_weights, prepared_as
from debias.models.checkpoint import load_read_outs
from debias.tracking.observers import check_kept
from debias.training.linear_probe import chance, probe
from debias.training.machine import device_name, pick_device


def probe_checkpoint(run: Run) -> None:
    """Probe every network in `checkpoint` for target and bias, print the accuracies and record them."""
    settings = prepare(run)
    path = Path(settings["checkpoint"])
    device = pick_device(settings["device"])
    about = described_weights(path)
    settings = prepared_as(settings, about, path)
    task = as_trained(load_data(settings, command="probe"), about, path)
    bundle, _ = load_read_outs(path, task.image_shape, task.n_targets, task.vector_size)
    found = probe(bundle.to(device), task.to(device), settings["probe_on"], settings["seed"])
    run.info["summary"] = {
        f"{network}/probe_{what}/given": value for network, values in found.items() for what, value in values.items()
    }
    run.info["device"] = device_name(device)
    half = (
        "half of the test images, measured on the other half" if settings["probe_on"] == "test" else "training images"
    )
    show(probe_table(found, chance(task), f"{path.name} on {task.name}: linear classifiers fitted on {half}, %"))
    if task.test.bias is None or task.train.bias is None:
        say(f"{task.name} has no bias labels: only the target is probed")
    check_kept(run)
    say_where(run)


def probe_table(found: Mapping[str, Mapping[str, float]], guessing: Mapping[str, float], title: str) -> Table:
    """A row per network and one for guessing."""
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("features of")
    columns = [what for what in ("target", "bias") if any(what in values for values in found.values())]
    for what in columns:
        table.add_column(what, justify="right")
    for network, values in found.items():
        table.add_row(network, *(f"{values[what]:.2f}" for what in columns))
    table.add_section()
    table.add_row("guessing", *(f"{guessing[what]:.2f}" for what in columns))
    return table
