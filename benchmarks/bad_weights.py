"""Files of weights that are not what they should be, by the name of a case."""

import debias.waiting  # noqa: F401 - before torch

import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.bad_kit import EVALUATE, HOSTILE, BadInput, Kit, deep, picture, plain

NAMES = [str(number) for number in range(10)]
TEXTS: Mapping[str, tuple[str, Any]] = {
    "names_dict": ("classes", {"a": 1}), "names_nested": ("classes", [["a"]] * 10), "names_null": ("classes", None),
    "names_nulls": ("classes", [None] * 10), "names_numbers": ("classes", list(range(10))),
    "names_number": ("classes", 3), "names_text": ("classes", "RAW:x"), "names_dup": ("classes", ["a"] * 10),
    "names_hostile": ("classes", [HOSTILE + name for name in NAMES]),
    "norm_empty": ("normalise", {}), "norm_list": ("normalise", [1, 2]), "norm_number": ("normalise", 3),
    "norm_nested": ("normalise", {"mean": [[0.5]] * 3, "std": [[0.5]] * 3}), "norm_text": ("normalise", "RAW:x"),
    "norm_null_values": ("normalise", {"mean": [None] * 3, "std": [None] * 3}),
    "norm_text_values": ("normalise", {"mean": ["a"] * 3, "std": ["b"] * 3}),
    "norm_nan": ("normalise", {"mean": [float("nan")] * 3, "std": [0.5] * 3}),
    "norm_std_0": ("normalise", {"mean": [0.5] * 3, "std": [0.0] * 3}),
    "norm_two": ("normalise", {"mean": [0.5] * 2, "std": [0.5] * 2}),
    "prep_text": ("preparation", "RAW:x"), "prep_empty": ("preparation", {}), "prep_list": ("preparation", [1]),
    "prep_null": ("preparation", None), "prep_framing": ("preparation", {"size": 28, "framing": "x"}),
    "prep_size_0": ("preparation", {"size": 0}), "prep_size_float": ("preparation", {"size": 28.5}),
    "prep_size_huge": ("preparation", {"size": 1_000_000}), "prep_size_other": ("preparation", {"size": 64}),
    "prep_size_text": ("preparation", {"size": "x"}), "prep_unknown_key": ("preparation", {"size": 28, "evil": 1}),
    "specs_empty": ("specs", {}), "specs_null": ("specs", None), "specs_number": ("specs", 3),
    "specs_text": ("specs", "RAW:x"), "specs_list": ("specs", [1]), "specs_deep": ("specs", "DEEP"),
    "spec_is_list": ("specs", {"model": [1]}), "spec_is_null": ("specs", {"model": None}),
}  # fmt: skip
FIELDS: Mapping[str, tuple[str, Any]] = {
    "shape_null": ("shape", None), "shape_text": ("shape", ["a", "b", "c"]), "shape_two": ("shape", [3, 28]),
    "vector_null": ("vector", None), "vector_text": ("vector", "x"), "read_out_hostile": ("read_out", HOSTILE),
}  # fmt: skip


def damage(source: Path, target: Path, fault: str) -> bool:
    """Write a file of weights with a fault; whether one of that name is known."""
    with safe_open(source, framework="pt") as file:
        texts = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    specs = json.loads(texts["specs"])
    if fault in TEXTS:
        name, value = TEXTS[fault]
        raw = isinstance(value, str)
        texts[name] = deep() if value == "DEEP" else value.removeprefix("RAW:") if raw else json.dumps(value)
    elif fault in FIELDS:
        name, value = FIELDS[fault]
        specs["model"][name] = value
        texts["specs"] = json.dumps(specs)
    elif fault in ("no_backbone", "no_classes", "no_shape"):
        del specs["model"][fault.removeprefix("no_")]
        texts["specs"] = json.dumps(specs)
    elif fault == "no_normalise":
        del texts["normalise"]
    elif fault == "spec_name_dotted":
        texts["specs"] = json.dumps({"a.b": specs["model"]})
        tensors = {name.replace("model", "a.b", 1): value for name, value in tensors.items()}
    elif fault in ("tensor_nan", "tensor_inf"):
        next(iter(tensors.values())).view(-1)[0] = float(fault.removeprefix("tensor_"))
    else:
        return False
    save_file(tensors, target, metadata=texts)
    return True


def of_weights(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    command, _, fault = name.removeprefix("w_").partition("_")
    path = folder.parent / "w.safetensors"
    shutil.copyfile(kit.weights, path)
    images = folder.parent / "f"
    base = {"evaluate": EVALUATE, "probe": ["probe", *EVALUATE[1:]]}.get(command)
    if name == "w_th_nan":
        layers = {"c1.weight": [100, 2352], "s1.hidden_layers.0.weight": [100, 100]}
        state = {f"debias_branch.{key}": torch.full(size, float("nan")) for key, size in layers.items()}
        torch.save(state, folder.parent / "w.th")
        return plain(kit, folder, [*EVALUATE, f"checkpoint={folder.parent / 'w.th'}"])
    if name == "w_predict_fifo":
        images.mkdir()
        picture(0, 0).save(images / "a.png")
        os.mkfifo(images / "b.png")
    elif name == "w_predict_csv_injection":
        images.mkdir()
        picture(0, 0).save(images / "=cmd.png")

        def call() -> Any:
            status = kit.main(kit.words(["predict", "with", f"folder={images}", f"checkpoint={path}"], folder))
            text = next((folder / "runs").rglob("predictions.csv")).read_text()
            return "CSV cell begins with =" if "\n=" in text else status

        return BadInput(call, fine=True)
    elif name == "w_predict_tarxz_bomb":
        images = folder.parent / "f.tar.gz"
        tar_with_bomb(images)
    elif not damage(kit.weights, path, fault):
        return None
    else:
        kit.photos(images, ("new",), 2)
    words = [*base, f"checkpoint={path}"] if base else [command, "with", f"checkpoint={path}", "threads=1"]
    words += [f"folder={images}"] if command == "predict" else []
    return plain(kit, folder, words)


def tar_with_bomb(path: Path) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        small = path.with_name("small.png")
        for kind in ("cat", "dog"):
            for number in range(3):
                picture(len(kind) + kind.count("d"), number).save(small)
                archive.add(small, f"{kind}/{number}.png")
        about = tarfile.TarInfo("cat/b.png")
        about.size = 600 * 2**20
        archive.addfile(about, _Zeros())


class _Zeros:
    def read(self, count: int = 0) -> bytes:
        return bytes(count)
