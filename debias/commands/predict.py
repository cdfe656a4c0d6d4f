"""The command `predict`: a trained model on new images."""

import contextlib
import csv
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.text import Text
from sacred.run import Run
from tqdm import tqdm

from debias.commands.common import prepare, say_where
from debias.commands.console import say, show
from debias.data.photos.archives import Files, is_image_name, open_files
from debias.data.photos.decode import fill
from debias.data.photos.listing import Problem, settle
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.features.choice import source_of
from debias.features.embed import fold
from debias.harmless import cell
from debias.models.embedders import Embedding
from debias.models.export import Deployed, final_model
from debias.tracking.observers import check_kept
from debias.training.machine import pick_device

TABLE = "predictions.csv"
_BATCH = 64
_SHOWN = 20


def predict_folder(run: Run) -> None:
    """Write `predictions.csv`: path, class and the probability of every class, a line for each image."""
    settings = prepare(run)
    model = loaded_model(settings)
    files = open_files(Path(settings["folder"]))
    names = [name for name in files.names if is_image_name(name)]
    left = [name for name in files.names if not is_image_name(name)]
    if not names:
        raise UserError(f"folder={settings['folder']}: there are no images in it")
    problems: list[Problem] = []
    rows = list(_rows(model, files, names, settings, problems))
    notes = settle(problems, settings["bad_files"], "broken files", "bad_files", Path(settings["cache_dir"]))
    if not rows:
        raise UserError(f"folder={settings['folder']}: no image in it can be read")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / TABLE
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["path", "class", *map(cell, model.classes)])
            writer.writerows([cell(row[0]), cell(row[1]), *row[2:]] for row in rows)
        leave_files(run, settings, [path])
    counts = {name: sum(row[1] == name for row in rows) for name in model.classes}
    shares = ", ".join(f"{count} {name}" for name, count in counts.items())
    notes += _left_out(files, left)
    show(*(Text(note) for note in notes), Text(f"{len(rows)} images: {shares}"))
    check_kept(run)
    say_where(run)


def loaded_model(settings: Mapping[str, Any]) -> Deployed:
    """The final model of `checkpoint` on the device, made fast for prediction."""
    model = final_model(Path(settings["checkpoint"]), finder(settings)).to(pick_device(settings["device"]))
    if model.embedding is not None:
        fold(model.embedding.network)
    return model


def finder(settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any], int], Embedding]:
    """Finds the pretrained network whose features a model takes."""

    def find(about: Mapping[str, Any], size: int) -> Embedding:
        source = source_of(about, settings["features"], settings["data_dir"], settings["cache_dir"])
        return Embedding(*source.build(size))

    return find


def _left_out(files: Files, names: list[str]) -> list[str]:
    """Lines about files that are skipped for their ending."""
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [f"{len(names)} files of {files.root} left out, as their ending is not that of an image: {shown}"]


def _rows(
    model: Deployed, files: Files, names: list[str], settings: dict[str, Any], problems: list[Problem]
) -> Iterator[list[str]]:
    preparation = Preparation(**model.description["preparation"])
    device, size = model.mean.device, preparation.size
    with tqdm(
        total=len(names),
        desc="predict",
        unit="image",
        disable=None if settings["progress"] else True,
        file=sys.__stderr__,
    ) as bar:
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            images = np.zeros((len(some), 3, size, size), dtype=np.uint8)
            faults = fill(files, some, preparation, images, settings["threads"], bar.update).faults
            problems += [Problem(files.path(some[i]), why) for i, why in sorted(faults.items())]
            with torch.inference_mode():
                scaled = torch.from_numpy(images).to(device).float() / 255
                p = torch.softmax(model(scaled), dim=1).cpu()
            for i, name in enumerate(some):
                if i not in faults:
                    yield [name, model.classes[int(p[i].argmax())], *(f"{value:.6f}" for value in p[i].tolist())]


def leave_files(run: Run, settings: dict[str, Any], paths: list[Path], gone: Sequence[str] = ()) -> None:
    """Attach files to the run, or put them into the folder that the user chose, each whole or not at all.

    gone : names of files that an earlier command of this kind may have left there, and this one does not write
    """
    if settings["output"] is None:
        for path in paths:
            run.add_artifact(path)
        return
    folder = Path(settings["output"])
    partials = [folder / f".{path.name}.partial" for path in paths]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, partial in zip(paths, partials, strict=True):
            shutil.copyfile(path, partial)
        for path, partial in zip(paths, partials, strict=True):
            partial.replace(folder / path.name)
        # It would be of another model than the files beside it.
        for name in gone:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        for partial in partials:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise UserError(f"output={folder}: cannot be written to ({error.strerror or error})") from error
    say(f"written: {', '.join(str(folder / path.name) for path in paths)}")
