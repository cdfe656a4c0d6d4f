"""The command `export`: the final model of a checkpoint alone, in files for use elsewhere, with a card that says what
it is."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.text import Text
from sacred.run import Run
from torch import Tensor

from debias.commands.common import prepare, say_where
from debias.commands.console import say, show
from debias.commands.predict import finder, leave_files
from debias.data.photos.archives import is_image_name, open_files
from debias.data.photos.decode import fill
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.models.export import ONNX, Deployed, final_model, write_model
from debias.tracking.folders import RunRecord
from debias.tracking.observers import check_kept
from debias.tracking.report.beside import look_beside
from debias.tracking.report.card import write_card

# Images of the user's folder that an export is checked on.
_CHECKED = 5


def export_checkpoint(run: Run) -> None:
    """Write the final model of a checkpoint, read it back (see `models.export.write_model`), and write its card."""
    settings = prepare(run)
    checkpoint = Path(settings["checkpoint"])
    model = final_model(checkpoint, finder(settings))
    beside = look_beside(checkpoint, model.description)
    images, whose = own_images(model, settings, beside.record)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        written = write_model(model, folder, images)
        cards = write_card(folder, model.description, beside)
        leave_files(run, settings, [*written.paths, *cards], gone=[ONNX] if written.notes else ())
    side, classes = model.description["input"]["size"], ", ".join(model.classes)
    show(Text(f"{model.description['read_out']} of {settings['checkpoint']}: images of {side} x {side} to {classes}"))
    say(f"each file gives the logits of the model, on {written.checked} images ({whose})")
    for note in (*written.notes, *beside.notes):
        say(note)
    check_kept(run)
    say_where(run)


def own_images(model: Deployed, settings: Mapping[str, Any], record: RunRecord | None) -> tuple[Tensor | None, str]:
    """Some of the images that a model was trained on, float32 [N, 3, S, S] in [0, 1], and whose they are, in words.

    None where there are none to be had: images that are made by this program, and a folder that is not there any more.
    """
    nobody = None, "all of them random"
    place = settings["data_dir"] or (record.config.get("data_dir") if record is not None else None)
    if model.description["trained"].get("dataset") != "own_images" or not isinstance(place, str):
        return nobody
    try:
        files = open_files(Path(place))
        names = [name for name in files.names if is_image_name(name)]
    except (UserError, OSError):
        return nobody
    # From all over the folder, so of several classes.
    some = [names[i] for i in np.linspace(0, len(names) - 1, min(_CHECKED, len(names))).round().astype(int)]
    size = model.description["input"]["size"]
    images = np.zeros((len(some), 3, size, size), dtype=np.uint8)
    faults = fill(files, some, Preparation(**model.description["preparation"]), images, settings["threads"]).faults
    kept = [i for i in range(len(some)) if i not in faults]
    if not kept:
        return nobody
    whose = f"{len(kept)} of {Path(place).resolve().name}, the others random"
    return torch.from_numpy(images[kept]).float() / 255, whose
