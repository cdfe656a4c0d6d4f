"""The card of an exported model: what it was trained on and how, what its figures are worth, and how to use it.

It is made of what the file of weights says and, where the record of its run lies beside it, of that. Names of classes
and folders come from strangers; paths of this machine stay out of it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sacred.utils import iterate_flattened

from debias.catalogue import decides, default_for, known_settings
from debias.data.registry import DATASETS
from debias.stages.recipes import RECIPES, STAGES
from debias.tracking.folders import RunRecord
from debias.tracking.report.beside import ODD, Beside
from debias.tracking.report.blocks import Block, Heading, Listed, Paragraph, markdown, page
from debias.tracking.report.card_figures import figures, limits, selection, shortcut
from debias.tracking.report.card_use import use
from debias.tracking.results.tables import Table

CARD, CARD_PAGE = "card.md", "card.html"
_MOST_CLASSES = 100
# Said elsewhere in the card, or of this machine.
_SAID = ("method", "dataset", "data_dir", "features", "seed", "imagenet_weights")


def write_card(folder: Path, description: Mapping[str, Any], beside: Beside) -> list[Path]:
    """Write `card.md` and `card.html`.

    description : what `model.json` holds; beside : what lies beside the checkpoint
    """
    try:
        title, blocks = card(description, beside)
    except ODD as error:
        # A record may be of an older version, or damaged.
        said = f"the record of its run cannot be read ({type(error).__name__}): this is what the file itself says"
        title, blocks = card(description, Beside(notes=(said,)))
    paths = [folder / CARD, folder / CARD_PAGE]
    for path, text in zip(paths, (markdown(title, blocks), page(title, blocks)), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def card(description: Mapping[str, Any], beside: Beside) -> tuple[str, list[Block]]:
    """The title of the card, and its blocks."""
    record, trained = beside.record, description["trained"]
    data = _data_of(record)
    name = str(data.get("folder") or trained.get("dataset", "data that the file does not name"))
    method = str(trained.get("method", "a method that the file does not name"))
    blocks: list[Block] = [
        Paragraph(
            f"A classifier of images of {description['input']['size']} x {description['input']['size']} pixels into "
            f"{len(description['classes'])} classes: {_some(description['classes'])}."
        ),
        *(Paragraph(f"{note[0].upper()}{note[1:]}.", bold="Not complete.") for note in beside.notes),
        Heading("Data"),
        *_data(description, record, data, name),
        Heading("Method"),
        *_method(description, record, method),
        Heading("The shortcut"),
        *shortcut(beside),
        Heading("Figures"),
        *figures(description, beside),
        Heading("How it was selected"),
        *selection(beside),
        Heading("What this does not say"),
        Listed(limits(description, beside)),
        Heading("How to use it"),
        *use(description),
    ]
    return f"{name}, trained by {method}", blocks


def _data_of(record: RunRecord | None) -> Mapping[str, Any]:
    found = {} if record is None else record.info.get("data")
    return found if isinstance(found, Mapping) else {}


def _data(description: Mapping[str, Any], record: RunRecord | None, data: Mapping[str, Any], name: str) -> list[Block]:
    dataset = str(description["trained"].get("dataset", ""))
    spec = DATASETS.get(dataset)
    words = f"{dataset}: {spec.summary}" if spec is not None and dataset != name else dataset or "not named in the file"
    blocks: list[Block] = [Paragraph(f"{words}." + (f" Folder: {data['folder']}." if "folder" in data else ""))]
    counts = data.get("images")
    if counts is None:
        return [*blocks, Paragraph("How many images there were of each class is not recorded.")]
    parts = {"train": "training", "valid": "held out", "test": "test"}
    shown = [part for part in parts if part in counts]
    totals = [sum(counts[part]) for part in shown]
    rows = [[one, *(str(counts[part][i]) for part in shown)] for i, one in enumerate(description["classes"])]
    if len(rows) > _MOST_CLASSES:
        blocks.append(Paragraph(f"The table has the first {_MOST_CLASSES} of {len(rows)} classes."))
    rows = [*rows[:_MOST_CLASSES], ["all", *map(str, totals)]]
    blocks.append(Table("", ["class", *(f"{parts[part]} images" for part in shown)], rows, text_columns=("class",)))
    if "valid" in counts:
        held, kept = sum(counts["valid"]), sum(counts["train"])
        share = 100 * held / max(1, held + kept)
        blocks.append(Paragraph(f"{share:.0f} % of the images that are no test images were held out ({held})."))
    else:
        blocks.append(Paragraph("No training image was held out."))
    if isinstance(data.get("conflicting"), int | float):
        share = 100 * data["conflicting"]
        blocks.append(Paragraph(f"{share:g} % of the training images conflict: their bias is not that of their class."))
    return blocks


def _method(description: Mapping[str, Any], record: RunRecord | None, method: str) -> list[Block]:
    recipe = RECIPES.get(method)
    blocks: list[Block] = []
    if recipe is None:
        names = [name for name in re.findall(r"\w+", method) if name in STAGES]
        blocks += [Paragraph(f"{method}, an own order of stages.")] if names else [Paragraph(f"{method}.")]
    else:
        names = list(recipe.stages_on(description["trained"].get("dataset")))
        source = f"Published: {recipe.paper}." if recipe.paper else "It is a method of this project."
        blocks.append(Paragraph(f"{method}: {recipe.summary}. {source}", link=recipe.link))
    if names:
        blocks.append(Listed([f"{name}: {STAGES[name].summary}" for name in names]))
        needs = any(STAGES[name].needs_bias_labels for name in names)
        blocks.append(Paragraph("It was given bias labels." if needs else "It was given no bias labels."))
    network = f"Network: {description['network']['backbone']}"
    if "features" in description:
        network += (
            f", on features of the pretrained network {bare(description['features']['network'])}, which is part of it"
        )
    blocks.append(Paragraph(f"{network}. Seed: {description['trained'].get('seed', 'not recorded')}."))
    if record is None:
        return [*blocks, Paragraph("Which settings were changed is not recorded beside the file.")]
    changed = _changed(record, method)
    if changed:
        blocks.append(Table("Settings that are not the default", ["setting", "value", "default"], changed,
                            text_columns=("setting", "value", "default")))  # fmt: skip
    else:
        blocks.append(Paragraph("All settings are the defaults."))
    where = f"Trained on {record.device or 'a device that is not recorded'}"
    return [*blocks, Paragraph(f"{where}, started {record.started[:10] or 'at a time that is not recorded'}.")]


def _changed(record: RunRecord, method: str) -> list[list[str]]:
    """Settings that decide figures and are not at their default: name, value, default."""
    config, dataset = record.config, str(record.config["dataset"])
    known = known_settings()
    names = [name for name in re.findall(r"\w+", method) if name in STAGES]
    stages = set(RECIPES[method].stages_on(dataset) if method in RECIPES else names)
    on_features = config.get("features", "none") != "none"
    rows = []
    for path, value in iterate_flattened(config):
        group = path.rpartition(".")[0]
        if path not in known or not decides(path) or path in _SAID or (group and group not in stages):
            continue
        usual = default_for(path, method if method in RECIPES else names, dataset, config.get("quick") is True,
                            on_features)  # fmt: skip
        if value != usual:
            rows.append([path, bare(value), bare(usual)])
    return rows


def bare(value: Any) -> str:
    """A setting's value without the folders of this machine: NETWORK@/home/me/FILE is NETWORK@FILE."""
    text = str(value)
    if not isinstance(value, str) or "/" not in text:
        return text
    network, at, file = text.partition("@")
    if at and ("/" not in network or network.startswith("timm/")):
        return f"{network}@{Path(file).name}"
    return Path(text).name


def _some(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
