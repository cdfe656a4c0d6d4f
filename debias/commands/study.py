"""The command `study`: from a folder of images to a named shortcut, a better model and the evidence."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from sacred.run import Run
from sacred.utils import set_by_dotted_path
from torch import Tensor

from debias.commands.common import about_data, given_settings, load_data, prepare, say_where
from debias.commands.console import say, show
from debias.commands.diagnose import as_record, data_words, diagnosed
from debias.commands.leavings import about_weights
from debias.config import Defaults, resolve
from debias.data.mapped import in_memory
from debias.data.properties.intervals import Share
from debias.errors import UserError
from debias.features.loading import NONE
from debias.models.checkpoint import save_weights
from debias.stages.recipes import RECIPES, stages_of
from debias.study.candidates import WHERE_NAMED
from debias.study.choice import PLAIN
from debias.study.findings import Findings, find, shortcut_properties
from debias.study.looks import Looks, look_lines, looks_record, where_they_look
from debias.tracking import pictures as draw
from debias.tracking.overview import overview
from debias.tracking.report.study import (
    all_images,
    choice_line,
    effect_lines,
    headline,
    labels_line,
    moving_line,
    pairs_lines,
    pairs_shown,
    words_of,
    write_study,
)
from debias.training.heldout import FIGURE
from debias.training.machine import device_name, pick_device
from debias.training.store import Store
from debias.training.walk import imagenet_weights

# Of a cluster, and of clusters, how many images and rows are drawn.
_EACH, _DRAWN = 10, 6


def study_data(run: Run) -> None:
    """Diagnose, train what may help, choose without bias labels, and leave one page.

    A run of it has no result: an accuracy on test images that have the same shortcut would pass for one.
    """
    settings = prepare(run)
    started = time.monotonic()
    images = load_data(settings, images=True)
    show(*overview(images))
    device = pick_device(settings["device"])
    store = Store(Path(settings["store"]) / "stages")
    say(f"features: {settings['features']}" if settings["features"] != NONE else _without_features())
    task = images if settings["features"] == NONE else load_data(settings)
    if settings["dataset"] == "own_images" and settings["data_dir"] is not None:
        # What the page is about.
        name = Path(settings["data_dir"]).resolve().name
        images, task = replace(images, name=name), replace(task, name=name)
    if task.valid is None:
        raise UserError(
            f"valid_fraction={settings['valid_fraction']}: study chooses by held-out images; set it above 0"
        )
    for method in WHERE_NAMED:
        # What is missing is said before minutes of work.
        imagenet_weights(stages_of(method, dataset=settings["dataset"]), _settings_of(run, settings, method, ()))
    seconds = {"images and features": time.monotonic() - started}
    began = time.monotonic()
    small, seen = diagnosed(images, settings, device, store)
    names = shortcut_properties(seen, small.train, task.n_targets, settings["seed"])
    seconds["diagnosis"] = time.monotonic() - began

    def settings_of(method: str) -> Mapping[str, Any]:
        return _settings_of(run, settings, method, names)

    found = find(
        task, seen, names, settings_of, device, store, settings["seed"], say=lambda line: say(f"  {line}"),
        progress=settings["progress"],
    )  # fmt: skip
    seconds |= found.seconds
    began = time.monotonic()
    models = {name: found.candidates[name].model for name in dict.fromkeys((PLAIN, found.chosen))}
    looks = where_they_look(models, task, found.first, names, settings, device)
    seconds["heat"] = time.monotonic() - began
    run.info["device"] = device_name(device)
    run.info["data"] = about_data(task, settings)
    run.info["study"] = _as_record(found, seconds) | {"heat": looks_record(looks)}
    run.info["diagnosis"] = as_record(found.diagnosis)
    run.info["summary"] = {f"{name}/{FIGURE}/held_out": found.held_out(name) for name in found.candidates}
    commands = next_commands(found, run)
    _leave(run, found, looks, commands)
    show(Text(""), Text(f"{task.name}: {headline(found)}.", style="bold"), Text(f"{words_of(found)}."))
    show(*(Text(f"{line}.") for line in effect_lines(found)), Text(f"{choice_line(found)}.", style="bold"))
    if moving_line(found):
        show(Text(f"{moving_line(found)}."))
    if found.labels is not None:
        wrong = f"{len(found.labels.order)} labels look wrong" if found.labels.free else labels_line(found.labels)
        show(Text(f"{wrong}; {'; '.join(pairs_lines(found))}."))
    show(Text("Go on with:"), *(Text(f"    {command}    # {why}") for why, command in commands))
    show(Text(", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())))
    say_where(run)


def _without_features() -> str:
    return "features=none: networks are trained on the images themselves, which takes far longer on a CPU"


def _settings_of(run: Run, settings: Mapping[str, Any], method: str, names: tuple[str, ...]) -> dict[str, Any]:
    """All settings of a run of a method on the data of this one."""
    fixed: dict[str, Any] = {}
    for path, value in given_settings(run).items():
        set_by_dotted_path(fixed, path, value)
    fixed |= {name: settings[name] for name in ("features", "valid_fraction", "dataset")} | {"method": method}
    if names:
        fixed["mine_property"] = {**fixed.get("mine_property", {}), "property": "+".join(names)}
    return resolve(Defaults()(fixed=fixed))


def _as_record(found: Findings, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The findings as plain data, for `info.json`."""
    against = found.against
    return {
        "verdict": found.verdict.kind,
        "headline": headline(found),
        "words": words_of(found),
        "properties": list(found.names),
        "chosen": found.chosen,
        "effects": effect_lines(found),
        "choice": choice_line(found),
        "methods": {
            name: {
                "held_out": found.held_out(name),
                "held_out_moved": found.held_out_moved(name) if found.telling else None,
                "test": 100 * found.accuracy(name).value,
                "against": None if against is None else 100 * found.accuracy(name, against).value,
                "seconds": one.seconds,
                # Hits and images: all test images, those with the shortcut and those against it, and class by class.
                "shares": {
                    part: [share.hits, share.n] for part, share in _shares(found, name).items() if share is not None
                },
                "classes": [[share.hits, share.n] for share in found.by_class(name)],
            }
            for name, one in found.candidates.items()
        },
        "test_images_against": None if against is None else int(against.sum()),
        "wrong_labels": len(found.labels.order) if found.labels is not None and found.labels.free else None,
        "near_duplicates": None if found.pairs is None else len(found.pairs),
        "worst_cluster": {name: 100 * min(one.shares[name] for one in found.clusters) for name in found.candidates}
        if found.clusters
        else None,
        "seconds": dict(seconds),
    }


def _shares(found: Findings, method: str) -> dict[str, Share | None]:
    """Of a method on all test images, those with the shortcut, those against it, and given that of another class."""
    parts = {
        part: None if which is None else found.accuracy(method, which)
        for part, which in (("along", found.along), ("against", found.against))
    }
    return {"all": found.accuracy(method), **parts, "others": found.on_others(method)}


def next_commands(found: Findings, run: Run) -> list[tuple[str, str]]:
    """What to do next and why, command by command."""
    named = f' mine_property.property="{"+".join(found.names)}"' if found.names else ""
    extra = named if "mine_property" in RECIPES[found.chosen].stages else ""
    place = next((observer.dir for observer in run.observers if getattr(observer, "dir", None)), None)
    commands = []
    if place is not None:
        weights = Path(place) / "weights.safetensors"
        commands += [
            ("Look at the suspects and mark them:", f"python main.py review {place}"),
            (
                f"Classes of new images, by the weights of {found.chosen}:",
                f"python main.py predict with own_images checkpoint={weights} folder=FOLDER",
            ),
            (
                "The model for use elsewhere, with a card that says what it is:",
                f"python main.py export with own_images checkpoint={weights}",
            ),
        ]
    commands.append(
        (
            "The recommended method as a run of its own, with all figures and pictures:",
            f"python main.py with {data_words(run, found.chosen)} {found.chosen}{extra}",
        )
    )
    if found.chosen != PLAIN:
        commands.append(("The plain method, to compare with:", f"python main.py with {data_words(run, PLAIN)} {PLAIN}"))
    return commands


def _leave(run: Run, found: Findings, looks: Looks, commands: list[tuple[str, str]]) -> None:
    task, labels = found.task, found.labels
    names = task.target_names
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pictures: dict[str, Path] = {}

        def sheet(caption: str, file: str, images: Tensor, captions: list[str], columns: int = 10) -> None:
            title = f"{task.name}: {caption}"
            pictures[caption] = draw.plot_images(images, captions, title=title, path=folder / file, columns=columns)

        def of(places: Tensor) -> Tensor:
            return in_memory(task.train.shown[places]).cpu()

        targets = task.train.target.cpu()
        if len(found.first):
            captions = [names[int(targets[i])] for i in found.first]
            sheet("Look at these first", "first.png", of(found.first), captions)
        if labels is not None and len(labels.order):
            some = labels.order[:40]
            captions = [f"{names[int(targets[i])]}\nlike {names[int(labels.other[i])]}" for i in some]
            sheet("Labels that look wrong", "labels.png", of(some), captions)
        every = all_images(task)
        if found.clusters:
            rest = torch.cat([in_memory(part).cpu() for part in every[1:]])
            rows = [one.images[:_EACH] for one in found.clusters[:_DRAWN] if len(one.images) >= _EACH]
            captions = [
                f"{names[one.target]} {number + 1}" if place == 0 else ""
                for number, one in enumerate(one for one in found.clusters[:_DRAWN] if len(one.images) >= _EACH)
                for place in range(_EACH)
            ]
            sheet("Groups, a row each", "groups.png", rest[torch.cat(rows)], captions)
        if found.pairs:
            whole = torch.cat([in_memory(part).cpu() for part in every])
            places = torch.tensor([place for pair in pairs_shown(found) for place in pair])
            target = torch.cat([part.target.cpu() for part in (task.train, task.valid, task.test) if part is not None])
            sheet("Near duplicates, pair by pair", "pairs.png", whole[places], [names[int(target[i])] for i in places])
        if found.diagnosis.moved:
            pictures["Evidence: what moves the answers"] = draw.plot_rates(
                found.diagnosis.moved, title=f"{task.name}: what moves the answers", path=folder / "rates.png",
                named=found.verdict.operator,
            )  # fmt: skip
        if looks.heat:
            pictures["Where the models look"] = draw.plot_heat(
                looks, names, title=f"{task.name}: where the models look", path=folder / "heat.png"
            )
        more: dict[str, list[str]] = {}
        if labels is not None:
            flags = found.suspects.score > found.suspects.threshold
            more["signal"] = [
                "wrong label" if wrong else "conflicting" if flag else ""
                for wrong, flag in zip(labels.wrong.tolist(), flags.tolist(), strict=True)
            ]
            more["label_fit"] = [f"{given:.6f}" for given in labels.given.tolist()]
            more["looks_like"] = [
                names[other] if wrong else ""
                for wrong, other in zip(labels.wrong.tolist(), labels.other.tolist(), strict=True)
            ]
        paths = [*pictures.values(), *draw.write_suspects(folder, task, found.suspects, more=more)]
        weights = folder / "weights.safetensors"
        about = about_weights(run, task) | {"method": found.chosen}
        save_weights(weights, None, found.candidates[found.chosen].model, about=about)
        paths.append(weights)
        paths.append(write_study(folder / "study.html", found, pictures, commands, look_lines(looks)))
        for path in paths:
            run.add_artifact(path)
