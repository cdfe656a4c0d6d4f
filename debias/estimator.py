"""A study from Python, by the conventions of scikit-learn: `from debias import Study`.

It runs the command `study` in this process and reads what that leaves: the same records, the same page, the same stages
in the store, so that a fit which was interrupted continues and one that was done is not done again.
"""

import debias.waiting  # noqa: F401 - before torch

import contextlib
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sacred.utils import set_by_dotted_path
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from debias.commands.console import silence
from debias.commands.experiment import build
from debias.commands.predict import loaded_model
from debias.config import resolve
from debias.data.photos.decode import cores, decode, framed
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.harmless import cell, plain
from debias.models.export import Deployed
from debias.rawfiles import read_regular, read_text, table_rows

Images = str | os.PathLike | Sequence[str | os.PathLike] | ArrayLike
_BATCH = 64
# Files of a run that a study is read back from.
_RECORD, _SUSPECTS, _WEIGHTS, _PAGE = "info.json", "suspects.csv", "weights.safetensors", "study.html"


@dataclass(frozen=True)
class Finding:
    """What a study says of its images.

    Parameters
    ----------
    kind
        `named`, `unmoved` (something goes against the class and no property of images is known for it), `none`, or
        `unlearnt` (nothing can be said).
    headline, words
        One line, and the evidence in a sentence or two.
    properties
        What the shortcut consists of; empty where none is named.
    operators, telling
        The figures behind it. By operator, for how many pairs of images the answer of a network with the shortcut moves
        along with a property: `transferred` is a share with the ends of its 95 % interval, `chance` what disturbing the
        image alone would do. By simple property, how well it alone predicts the class: `accuracy`, `low`, `chance`.
    """

    kind: str
    headline: str
    words: str
    properties: tuple[str, ...]
    operators: Mapping[str, Mapping[str, Any]]
    telling: Mapping[str, Mapping[str, float]]

    @property
    def found(self) -> bool | None:
        """Whether there is a shortcut; None where that cannot be said."""
        return {"named": True, "unmoved": True, "none": False}.get(self.kind)


class Study(ClassifierMixin, BaseEstimator):
    """Name the shortcut in images, train a model that does not rely on it, and predict with that model.

    Parameters
    ----------
    store, cache_dir
        Folders of runs and of prepared images and features.
    seed
        Of everything random.
    device
        As the setting of that name.
    threads
        Of the CPU; None for all cores.
    settings
        Any other settings by dotted name, as on the command line: {"image_size": 128, "pretrain.epochs": 20}.
    verbose
        Whether progress is shown, on standard error, and what was found, on standard output.

    Attributes
    ----------
    classes_ : the labels, in the order of columns of `predict_proba`
    chosen_ : the method whose model predicts, chosen by held-out images without bias labels
    held_out_ : by method, the accuracy in percent by which it was chosen, over cells of class and pseudo label: of
    held-out images that were given the shortcut of others where that is named and moves, of them as they are elsewhere
    run_ : the folder of the record; page_ : the page in it, to be opened in a browser
    """

    def __init__(
        self,
        *,
        store: str | os.PathLike = "runs",
        cache_dir: str | os.PathLike = ".cache",
        seed: int = 1,
        device: str = "auto",
        threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ) -> None:
        self.store, self.cache_dir, self.seed = store, cache_dir, seed
        self.device, self.threads, self.settings, self.verbose = device, threads, settings, verbose

    def fit(self, X: Images, y: ArrayLike | None = None) -> Self:
        """Study images.

        Parameters
        ----------
        X
            A folder or archive with a folder for each class (then without `y`); or paths of image files; or an array
            of images, uint8 or float in [0, 1], [N, H, W] or [N, H, W, 3].
        y
            A label for each image, of any kind that reads as a text of its own.

        Raises
        ------
        UserError
            Images that cannot be used, fewer than two classes, unknown settings, and whatever else the command refuses.
        ValueError
            Arrays of another form, or labels that do not fit them.
        """
        given: dict[str, Any] = {}
        names: dict[str, Any] = {}
        files: list[str] = []
        if isinstance(X, str | os.PathLike) and y is None:
            given["data_dir"] = os.fspath(X)
        else:
            given, names, files = self._listed(X, y)
        for path, value in (self.settings or {}).items():
            set_by_dotted_path(given, path, value)
        given |= {
            "store": os.fspath(self.store), "cache_dir": os.fspath(self.cache_dir), "seed": self.seed,
            "device": self.device, "threads": self.threads, "progress": self.verbose,
        }  # fmt: skip
        with contextlib.nullcontext() if self.verbose else silence():
            run = build().run("study", config_updates=given, named_configs=["own_images"], options={"--debug": True})
        folder = next((Path(place) for one in run.observers if (place := getattr(one, "dir", None))), None)
        if folder is None:
            raise UserError("a study is read from its record, and this run was told to keep none")
        self._read(folder, names, files)
        return self

    @classmethod
    def from_run(cls, folder: str | os.PathLike, **parameters: Any) -> Self:
        """A study that was done before, here or by `python main.py study`; its labels are the names of its classes.

        Raises
        ------
        UserError
            The folder is not that of a finished study.
        """
        self = cls(**parameters)
        self._read(Path(folder), {}, [])
        return self

    def diagnose(self) -> Finding:
        """Whether the images have a shortcut, what it is, and the evidence."""
        about, seen = self._fitted("record_")["study"], self.record_.get("diagnosis", {})
        return Finding(
            about["verdict"], about["headline"], about["words"], tuple(about["properties"]), seen.get("operators", {}),
            seen.get("properties", {}),
        )  # fmt: skip

    def suspects(self, signal: str | None = None) -> list[dict[str, Any]]:
        """The training images, those that go most against the shortcut first; a table for `pandas.DataFrame`.

        Each has `path` and `target`, the miner's `score`, whether it is a `suspect`, a `signal` ("conflicting", "wrong
        label" or ""), `label_fit` from 0 to 1, how much it looks like its label, and after a fit on paths or arrays
        `index`, its place among them. Wrong labels alone come by that: the surest first.

        signal : only images with this one
        """
        self._fitted("run_")
        rows = []
        table = self.run_ / _SUSPECTS
        for _, row in table_rows(read_text(table, str(table)), str(table))[1]:
            values: dict[str, Any] = dict(row)
            values |= {"id": int(row["id"]), "score": float(row["score"]), "suspect": row["suspect"] == "1"}
            if "label_fit" in row:
                values["label_fit"] = float(row["label_fit"])
            values["target"] = self._labels.get(row["target"], row["target"])
            if (index := self._places.get(row.get("path", ""))) is not None:
                values["index"] = index
            if signal in (None, values.get("signal")):
                rows.append(values)
        return sorted(rows, key=lambda row: row["label_fit"]) if signal == "wrong label" else rows

    def predict(self, X: Sequence[str | os.PathLike] | ArrayLike) -> NDArray:
        """Labels [N] of images: paths of files, or an array as for `fit`."""
        found = self.predict_proba(X).argmax(axis=1)
        return self.classes_[found]

    def predict_proba(self, X: Sequence[str | os.PathLike] | ArrayLike) -> NDArray[np.float32]:
        """Probabilities [N, classes] of images: paths of files, or an array as for `fit`.

        Raises
        ------
        UserError
            A file that cannot be read as an image.
        """
        model: Deployed = self._fitted("model_")
        if isinstance(X, str | os.PathLike):
            raise ValueError(f"paths of images are wanted, not one path: sorted(Path({str(X)!r}).iterdir())")
        given: Any = X
        items: Any = (_paths(given) or _pixels(given)) if len(given) else []
        preparation = Preparation(**model.description["preparation"])
        found = []
        with ThreadPoolExecutor(self.threads or cores()) as pool, torch.inference_mode():
            for start in range(0, len(items), _BATCH):
                some = pool.map(lambda item: _prepared(item, preparation), items[start : start + _BATCH])
                images = torch.from_numpy(np.stack(list(some))).to(model.mean.device).float() / 255
                found.append(torch.softmax(model(images), dim=1).cpu())
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.classes_)), dtype=np.float32)

    def _fitted(self, name: str) -> Any:
        if not hasattr(self, name):
            raise NotFittedError("this study has not been fitted: call fit, or read one by Study.from_run")
        return getattr(self, name)

    def _read(self, folder: Path, names: Mapping[str, Any], files: Sequence[str]) -> None:
        try:
            record = json.loads(read_text(folder / _RECORD, _RECORD))
            about = record["study"]
            held_out = {
                name: float(one["held_out"] if one.get("held_out_moved") is None else one["held_out_moved"])
                for name, one in about["methods"].items()
            }
            chosen = str(about["chosen"])
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder}: not the folder of a finished study") from error
        self.model_ = loaded_model(
            resolve({
                "dataset": "own_images", "checkpoint": str(folder / _WEIGHTS), "cache_dir": os.fspath(self.cache_dir),
                "device": self.device,
            })
        )  # fmt: skip
        self.record_, self.run_, self.page_ = record, folder, folder / _PAGE
        self.chosen_, self.held_out_ = chosen, held_out
        # As cells of a table have them.
        self._labels = {cell(name): label for name, label in names.items()}
        self._places = {cell(file): place for place, file in enumerate(files)}
        self.classes_ = np.asarray([names.get(name, name) for name in self.model_.classes])

    def _listed(self, X: Images, y: ArrayLike | None) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Settings under which images in memory, or files with labels, are own images; labels by class name; files."""
        if y is None:
            raise ValueError("y is missing: a label for each image")
        labels = np.asarray(y)
        paths = _paths(X)
        pixels = None if paths else _pixels(X)
        count = len(paths) if pixels is None else len(pixels)
        if labels.shape != (count,):
            raise ValueError(f"y is of shape {labels.shape}, and there are {count} images")
        names: dict[str, Any] = {}
        for label in np.unique(labels):
            name = plain(str(label)).strip()
            if not name or name in names:
                raise ValueError(f"label {label!r} has no text of its own")
            names[name] = label.item() if isinstance(label, np.generic) else label
        texts = [plain(str(label)).strip() for label in labels]
        home = Path(self.cache_dir) / "arrays"
        if pixels is None:
            files = [str(Path(path).resolve()) for path in paths]
            table = _written(home, "\n".join(files).encode(errors="surrogateescape"), files, texts, None)
            return {"data_dir": str(table.parent), "labels": table.name, "outside": True}, names, files
        files = [f"{number:06d}.png" for number in range(count)]
        table = _written(home, b"", files, texts, pixels)
        given = {"data_dir": str(table.parent), "labels": table.name}
        return given, names, [str(table.parent / file) for file in files]


def _paths(X: Any) -> list[str]:
    """Paths as texts; none where these are images."""
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        return []
    items = list(X)
    if not all(isinstance(item, str | os.PathLike) for item in items):
        return []
    return [os.fspath(item) for item in items]


def _pixels(X: Any) -> NDArray[np.uint8]:
    """Images as uint8 [N, H, W, 3]."""
    images = np.asarray(X)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise ValueError(f"images are wanted as [N, H, W] or [N, H, W, 3], not {list(images.shape)}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("images are wanted as uint8, or as floats in [0, 1]")
    return np.round(images * 255).astype(np.uint8)


def _prepared(item: Any, preparation: Preparation) -> NDArray[np.uint8]:
    """A path or pixels uint8 [H, W, 3] to uint8 [3, size, size], as images of training were prepared."""
    if isinstance(item, str):
        try:
            image = decode(read_regular(Path(item)), preparation)
        except OSError as error:
            raise UserError(f"{item}: cannot be read ({error.strerror or error})") from error
        except ValueError as error:
            raise UserError(f"{item}: {error}") from error
    else:
        image = framed(Image.fromarray(item), preparation)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _written(home: Path, content: bytes, files: list[str], labels: list[str], pixels: NDArray | None) -> Path:
    """`labels.csv`, and images as PNG files beside it, in a folder named by their content; whole or not at all."""
    made = hashlib.sha256(content if pixels is None else np.ascontiguousarray(pixels).data)
    made.update(json.dumps([labels, None if pixels is None else pixels.shape]).encode())
    folder = home / made.hexdigest()[:16]
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            for file, image in zip(files, () if pixels is None else pixels, strict=pixels is not None):
                Image.fromarray(image).save(new / file, compress_level=1)
            with (new / "labels.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as handle:
                writer = csv.writer(handle)
                writer.writerow(["path", "target"])
                writer.writerows(zip(files, labels, strict=True))
            # Another process may have written the same one meanwhile.
            with contextlib.suppress(OSError):
                new.rename(folder)
    return folder / "labels.csv"
