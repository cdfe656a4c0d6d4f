"""The command `diagnose`: whether there is a shortcut in unlabelled images, and what it is."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from sacred.run import Run
from tqdm import tqdm

from debias.commands.common import about_data, load_data, prepare, say_where
from debias.commands.console import say, show
from debias.data.mapped import in_memory
from debias.data.operators import CONTROL
from debias.data.split import Task
from debias.diagnosis.look import STAGES_USED, Diagnosis, adapted, look, parts
from debias.diagnosis.prepare import prepared
from debias.diagnosis.verdict import UNSPECIFIC
from debias.stages.recipes import RECIPES, STAGES
from debias.tracking import pictures as draw
from debias.tracking.report.diagnosis import HEADS, SHOWN, percent, remarks, table_rows, write_diagnosis
from debias.training.machine import device_name, pick_device
from debias.training.store import Store
from debias.training.walk import Walk

_EXAMPLES = 3  # operators of which pairs are shown
# Words of the command line that are not part of what the data is.
_NOT_DATA = (
    "store",
    "cache_dir",
    "threads",
    "progress",
    "device",
    "fresh",
    "mongo",
    "shortcut.",
    "bias_balanced.",
    "diagnose_",
)
# How often the network with the shortcut is started, and how far the seeds of its starts are apart.
STARTS, _APART = 3, 1_000_003


def diagnose_data(run: Run) -> None:
    """Look for a shortcut, print what was found, and leave a page, pictures and a table of suspects."""
    settings = prepare(run)
    task = load_data(settings, images=True)
    device = pick_device(settings["device"])
    small, found = diagnosed(task, settings, device, Store(Path(settings["store"]) / "stages"))
    run.info["data"] = about_data(task, settings)
    run.info["diagnosis"] = as_record(found)
    run.info["summary"] = {
        f"{one.operator.name}/{name}/moved": 100 * value
        for one in found.moved
        for name, value in (("transferred", one.transferred.value), ("chance", one.chance.value))
    }
    run.info["device"] = device_name(device)
    words = data_words(run)
    commands = next_commands(found, words)
    _leave(run, found, commands)
    show(*tables(found), *(Text(f"{line}.") for line in remarks(found)), Text(""))
    show(Text(f"{small.name}: {found.verdict.words}.", style="bold"))
    show(Text(f"How sure: {found.verdict.sure}."), Text(f"What would change this: {found.verdict.doubt}."))
    show(Text("Go on with:"), *(Text(f"    {command}") for command in commands))
    say_where(run)


def diagnosed(task: Task, settings: Mapping[str, Any], device: torch.device, store: Store) -> tuple[Task, Diagnosis]:
    """The images that were looked at, as they were looked at, and what was found.

    A network that has come to answer the same to every image, as one in some dozens does, is started again elsewhere.
    """
    small = prepared(task, settings["diagnose_images"], settings["seed"])
    own = adapted(dict(settings), len(small.train))
    stages = [STAGES[name] for name in STAGES_USED]
    for start in range(STARTS):
        own["seed"] = (settings["seed"] + start * _APART) % 2**32
        walk = Walk(stages, small, own, device, store, say=say, progress=settings["progress"])
        with tqdm(
            total=parts(small), desc="diagnose", unit="property", disable=not settings["progress"],
            file=sys.__stderr__, leave=False,
        ) as bar:  # fmt: skip
            found = look(walk, small, settings["seed"], bar.update)
        if found.pairs is not None:
            break
        if start + 1 < STARTS:
            say("the network answers the same to every image; it is trained again from other first weights")
    return small, found


def tables(found: Diagnosis) -> list[Table]:
    """What moves the answers most, the control last, and which simple properties predict the class."""
    control = [one for one in found.moved if one.operator.name == CONTROL]
    top = [one for one in found.moved if one.operator.name != CONTROL][:SHOWN]
    rates = Table(title=Text("What moves the network's answers"), title_justify="left", title_style="bold")
    for number, head in enumerate(HEADS):
        rates.add_column(head, justify="left" if number < 2 else "right")
    for row in table_rows([*top, *control]):
        rates.add_row(*map(Text, row))
    plain = Table(title=Text("What one property alone tells of the class"), title_justify="left", title_style="bold")
    plain.add_column("property")
    for head in ("accuracy", "by chance"):
        plain.add_column(head, justify="right")
    for one in found.properties[:4]:
        plain.add_row(Text(one.name), percent(one.accuracy.value), percent(one.chance))
    return [plain, rates] if found.moved else [plain]


def as_record(found: Diagnosis) -> dict[str, Any]:
    """The verdict and every figure as plain data, for `info.json`."""
    verdict = found.verdict
    return {
        "verdict": verdict.kind,
        "operator": verdict.operator,
        "words": verdict.words,
        "sure": verdict.sure,
        "doubt": verdict.doubt,
        "network": found.network_name,
        "accuracy": found.accuracy.value,
        "corrected": None if found.corrected is None else found.corrected.value,
        "classes_without_suspects": list(found.without),
        "notes": list(found.notes),
        "operators": {
            one.operator.name: {
                "transferred": [one.transferred.value, one.transferred.low, one.transferred.high],
                "chance": one.chance.value,
                "stays": one.stays.value,
                "kept": None if one.kept is None else one.kept.value,
                "told": one.told.value,
                "told_chance": one.told_chance.value,
                "effect_low": one.effect_low,
                "tells_low": one.tells_low,
                "change": one.change,
                "pairs": one.transferred.n,
                "to_class": [share.value for share in one.to_class],
            }
            for one in found.moved
        },
        "properties": {
            one.name: {
                "accuracy": one.accuracy.value, "low": one.accuracy.low, "high": one.accuracy.high,
                "images": one.accuracy.n, "chance": one.chance,
            }
            for one in found.properties
        },
    }  # fmt: skip


def next_commands(found: Diagnosis, words: str) -> list[str]:
    """What to run next, by the verdict."""
    look_at = f"python main.py mine with {words} method='[shortcut]'"
    # Of photographs in files there are features, on which the first of these takes seconds.
    files = found.task.preparation is not None
    train = ("gce_balanced", "gce_transfer", "dcwp") if files else ("depth_transfer", "depth_balanced", "dcwp")
    if found.verdict.kind == "named":
        return [look_at, *(f"python main.py with {words} {name}" for name in train[:2])]
    if found.verdict.kind == "unmoved":
        return [look_at, f"python main.py with {words} {train[-1]}"]
    return [f"python main.py with {words} erm"]


def data_words(run: Run, trained: str | None = None) -> str:
    """The words of the command line that say which data it is, and those of the stages of a method to be trained."""
    given = (run.meta_info.get("options") or {}).get("UPDATE") or []
    own = RECIPES[trained].stages if trained is not None else ()

    def belongs(word: str) -> bool:
        stage = word.partition("=")[0].partition(".")[0]
        if trained is not None and "." in word.partition("=")[0] and stage in STAGES:
            return stage in own
        return not word.startswith(_NOT_DATA) and word not in RECIPES

    kept = [word for word in map(str, given) if belongs(word)]
    return " ".join(kept) or f"dataset={run.config['dataset']}"


def _leave(run: Run, found: Diagnosis, commands: list[str]) -> None:
    images = in_memory(found.task.train.images)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pictures: dict[str, Path] = {}
        if found.moved and found.pairs is not None:
            title = f"{found.task.name}: what moves the answers"
            path = draw.plot_rates(found.moved, title=title, path=folder / "rates.png", named=found.verdict.operator)
            pictures["Rates"] = path
            places = draw.plot_places(
                images, found.moved, title=f"{found.task.name}: where", path=folder / "places.png"
            )
            if places is not None:
                pictures["Places"] = places
            for one in _shown(found):
                name = one.operator.name
                pictures[f"Examples of {name}"] = draw.plot_moves(
                    one, found.network, images, found.pairs, found.task.target_names, path=folder / f"move-{name}.png"
                )
        paths = [*pictures.values(), *draw.write_suspects(folder, found.task, found.suspects)]
        paths.append(write_diagnosis(folder / "diagnosis.html", found, pictures, commands))
        for path in paths:
            run.add_artifact(path)


def _shown(found: Diagnosis) -> list[Any]:
    """The operators of which examples are shown: the one that is named, and those that move most."""
    specific = [one for one in found.moved if one.operator.name not in UNSPECIFIC]
    named = [one for one in specific if one.operator.name == found.verdict.operator]
    return [*named, *(one for one in specific if one not in named)][:_EXAMPLES]
