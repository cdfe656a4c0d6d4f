"""Bad inputs by the name of a case: files that are not what they should be, and the command that meets them."""

import waiting  # noqa: F401 - before torch

import functools
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

DIGITS = ["with", "colored_digits", "erm", "quick", "limit=60", "pretrain.epochs=1", "threads=1", "progress=False"]
EVALUATE = ["evaluate", "with", "colored_digits", "limit=60", "threads=1", "progress=False"]
PHOTOS = ["samples", "with", "own_images", "image_size=32", "progress=False", "threads=1"]
HOSTILE = "\x1b[31mred\x1b]0;title\x07"


@dataclass
class BadInput:
    """call : runs the command and gives its status; said : what must be in the output where the status is 0"""

    call: Callable[[], Any]
    said: str = ""
    fine: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def judge(self, status: object, said: str, folder: Path) -> str:
        """What is wrong, in a few words; empty when nothing is."""
        if isinstance(status, str):
            return status
        if "\x1b[31m" in said or "\x1b]0;" in said:
            return "TERMINAL ESCAPE"
        if "Traceback (most recent call last)" in said:
            return "TRACEBACK printed"
        left = [path for path in folder.rglob("run.json") if '"RUNNING"' in path.read_text(errors="replace")]
        if left:
            return f"LEFT {left[0].name} of a run as running"
        if status == 2:
            return "" if re.search(r"^error: ", said, re.MULTILINE) else "status 2 without a line"
        if status != 0:
            return f"STATUS {status}"
        if self.fine or (self.said and re.search(self.said, said)):
            return ""
        return "ACCEPTED without a word"


class Kit:
    """Weights and photographs that cases start from, made once."""

    def __init__(self, folder: Path, main: Callable[[list[str]], int]) -> None:
        self.folder, self.main = folder, main
        folder.mkdir(parents=True)
        self.cache = folder / "cache"

    def words(self, words: list[str], folder: Path) -> list[str]:
        """A command line that keeps to its folder."""
        given = {word.partition("=")[0] for word in words}
        more = [] if "store" in given else [f"store={folder / 'runs'}"]
        more += [] if "cache_dir" in given else [f"cache_dir={self.cache}"]
        return [*words, *([] if "with" in words else ["with"]), *more]

    @functools.cached_property
    def weights(self) -> Path:
        assert self.main(self.words(DIGITS, self.folder)) == 0
        return self.folder / "runs" / "1" / "weights.safetensors"

    def photos(self, folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 6) -> Path:
        for number, name in enumerate(classes):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(each):
                picture(number, i).save(folder / name / f"{i:03d}.png")
        return folder


def picture(kind: int, number: int, size: int = 32) -> Image.Image:
    pixels = np.random.default_rng(1000 * kind + number).integers(0, 255, (size, size, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def bad_input(name: str, command: str, kit: Kit, folder: Path) -> BadInput | None:
    """The case of this name in an empty folder; None where nothing is known of it."""
    words = command.split(" ")
    for start, make in (
        ("w_", of_weights),
        ("store_", of_stored),
        ("data_", of_data),
        ("t_", of_places),
        ("cli_", of_words),
    ):
        if name.startswith(start):
            return make(name, words, kit, folder)
    return None


def _plain(kit: Kit, folder: Path, words: list[str], **more: Any) -> BadInput:
    return BadInput(lambda: kit.main(kit.words(words, folder)), **more)


# Weight files


def _deep() -> str:
    return "[" * 200_000 + "]" * 200_000


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
        texts[name] = _deep() if value == "DEEP" else value.removeprefix("RAW:") if raw else json.dumps(value)
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
        return _plain(kit, folder, [*EVALUATE, f"checkpoint={folder.parent / 'w.th'}"])
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
        _tar_with_bomb(images)
    elif not damage(kit.weights, path, fault):
        return None
    else:
        kit.photos(images, ("new",), 2)
    words = [*base, f"checkpoint={path}"] if base else [command, "with", f"checkpoint={path}", "threads=1"]
    words += [f"folder={images}"] if command == "predict" else []
    return _plain(kit, folder, words)


def _tar_with_bomb(path: Path) -> None:
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


# Stored files


def of_stored(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    run = functools.partial(kit.main, kit.words(DIGITS, folder))
    store = folder / "runs"
    if name.startswith("store_checkpoint_") or name == "store_evil_checkpoint":
        return _of_checkpoint(name, kit, folder)
    if name.startswith(("store_result_other_", "store_stagefolder")):
        run()
        (path,) = (store / "stages").glob("pretrain-*")
        if name.startswith("store_stagefolder"):
            shutil.rmtree(path)
            if name.endswith("is_file"):
                path.write_text("x")
            else:
                path.symlink_to("nothere")
        else:
            good = torch.load(path / "result.pt", weights_only=True)
            content: Any = {
                "a_list": [1], "empty": {},
                "no_summary": {**good, "report": {k: v for k, v in good["report"].items() if k != "summary"}},
                "report_none": {**good, "report": None},
            }[name.removeprefix("store_result_other_")]  # fmt: skip
            torch.save(content, path / "result.pt")
            about = json.loads((path / "done.json").read_text())
            import hashlib

            about["sha256"] = hashlib.sha256((path / "result.pt").read_bytes()).hexdigest()
            (path / "done.json").write_text(json.dumps(about))
        return BadInput(run, said=r"not used|put aside|no result")
    if name in ("store_cache_meta_json_deep", "store_cache_partial_left"):
        cache = folder / "cache"
        words = [*DIGITS, f"cache_dir={cache}", f"store={store}", "fresh=True"]
        kit.main(words)
        (path,) = (path for path in cache.glob("colored_digits-*") if path.is_dir())
        if name.endswith("deep"):
            (path / "meta.json").write_text(_deep())
            return BadInput(lambda: kit.main(words), said="damaged")
        path.with_name(path.name + ".partial").mkdir()

        def call() -> Any:
            status = kit.main(words)
            return "LEFT half-written cache" if list(cache.glob("*.partial")) else status

        return BadInput(call, fine=True)
    if name == "store_owncache_faults_text":
        photos, cache = kit.photos(folder.parent / "photos"), folder / "cache"
        words = [*PHOTOS, f"data_dir={photos}", f"cache_dir={cache}", f"store={store}"]
        kit.main(words)
        for path in cache.rglob("faults.npy"):
            size = path.stat().st_size
            bad = np.frombuffer(b"xx", dtype=np.uint8)
            np.save(path, bad)
            assert path.stat().st_size == size, size
        return BadInput(lambda: kit.main(words), said="damaged")
    if name.startswith("store_rundir_superscript"):
        run()
        (store / "1²").mkdir()
        if name.endswith("sync"):
            return BadInput(lambda: kit.main(["sync", "with", f"store={store}", "mongo_url=mongodb://127.0.0.1:1/x"]))
        return BadInput(lambda: _results([str(store)]), fine=True)
    if name.startswith("store_runs_"):
        run()
        path = store / "1" / re.sub(r"store_runs_(\w+\.json).*", r"\1", name)
        path.unlink()
        if "fifo" in name:
            os.mkfifo(path)
        else:
            path.write_text(_deep())
        return BadInput(lambda: _results(["report", "--store", str(store), "--out", str(folder / "r.html")]), fine=True)
    return None


def _results(words: list[str]) -> int:
    import results

    return results.main(words)


def _of_checkpoint(name: str, kit: Kit, folder: Path) -> BadInput | None:
    from training.artifacts import Checkpoint
    from training.store import StageFolder

    fault = name.removeprefix("store_checkpoint_").removeprefix("other_").removeprefix("store_")
    words = kit.words(
        [
            "with",
            "colored_digits",
            "erm",
            "quick",
            "limit=60",
            "pretrain.epochs=4",
            "checkpoint_seconds=0",
            "threads=1",
            "progress=False",
        ],
        folder,
    )
    kept: list[Path] = []
    real = StageFolder.save_checkpoint

    def keep(self: StageFolder, checkpoint: Checkpoint) -> None:
        real(self, checkpoint)
        kept.append(self.path)
        raise KeyboardInterrupt

    StageFolder.save_checkpoint = keep  # type: ignore[method-assign, assignment]
    try:
        kit.main(words)
    finally:
        StageFolder.save_checkpoint = real  # type: ignore[method-assign]
    path = kept[0] / "checkpoint.pt"
    content = path.read_bytes()
    if fault == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif fault == "half":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "tail_garbage":
        path.write_bytes(content + b"garbage" * 10)
    elif fault == "evil_checkpoint":
        import pickle

        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, ("executed",)

        path.write_bytes(pickle.dumps(Evil()))
    else:
        state = torch.load(path, weights_only=True)
        first = next(iter(state["model"]))
        changed: Any = {
            "a_list": [1],
            "a_tensor": torch.zeros(3),
            "none": None,
            "no_history": {key: value for key, value in state.items() if key != "history"},
            "history_too_long": {**state, "history": state["history"] * 5, "model": {}},
            "more_optimisers": {**state, "optimisers": state["optimisers"] * 2},
            "other_names": {**state, "model": {f"x{key}": value for key, value in state["model"].items()}},
            "wrong_shape": {**state, "model": {**state["model"], first: torch.zeros(1)}},
            "nan": {**state, "model": {key: value * float("nan") for key, value in state["model"].items()}},
        }.get(fault, "unknown")
        if isinstance(changed, str):
            return None
        torch.save(changed, path)
    if fault == "tail_garbage":
        return BadInput(lambda: kit.main(words), fine=True)

    def call() -> Any:
        status = kit.main(words)
        return "EXECUTED" if Path("executed").exists() else status

    return BadInput(call, said="not used")


# Data


def of_data(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    from benchmarks.bad_data import data_case

    return data_case(name, words, kit, folder)


# Places: databases, tables of records


def of_places(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    tls = "mongodb://127.0.0.1:1/db?tls=true&tlsCAFile=/nothere"
    if name == "t_env_tls_file":
        return BadInput(lambda: kit.main(kit.words(DIGITS, folder)), environment={"MONGO_URL": tls})
    urls = {
        "t_mongo_tls_file": tls, "t_mongo_backslash": r"mongodb://127.0.0.1\x:1/db",
        "t_mongo_newline": "mongodb://127.0.0.1:1/db\nx",
    }  # fmt: skip
    if name in urls:
        return _plain(kit, folder, [*DIGITS, f"mongo_url={urls[name]}"])
    if name == "t_sync_tls_file":
        return _plain(kit, folder, ["sync", "with", f"mongo_url={tls}"])
    if name.startswith("t_res_records_dataset_"):
        value = {"dict": '{""a"": 1}', "list": "[1]"}[name.rpartition("_")[2]]
        (folder / "f.csv").write_text(
            f'run,started,status,command,device,dataset,method,seed,model/average/last\nx,,COMPLETED,train,cpu,"{value}",erm,1,5\n'
        )
        return BadInput(lambda: _results(["--records", "f.csv"]))
    return None


# Words of the command line


def of_words(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    from benchmarks.bad_words import words_case

    return words_case(name, words, kit, folder)
