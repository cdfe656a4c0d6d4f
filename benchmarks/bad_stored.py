"""Stored files that are not what they should be, and databases that are not there, by the name of a case."""

import debias.waiting  # noqa: F401 - before torch

import functools
import hashlib
import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bad_kit import DIGITS, PHOTOS, BadInput, Kit, deep, plain, results_command
from debias.training.artifacts import Checkpoint
from debias.training.store import StageFolder


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
            about["sha256"] = hashlib.sha256((path / "result.pt").read_bytes()).hexdigest()
            (path / "done.json").write_text(json.dumps(about))
        return BadInput(run, said=r"not used|put aside|no result")
    if name in ("store_cache_meta_json_deep", "store_cache_partial_left"):
        cache = folder / "cache"
        words = [*DIGITS, f"cache_dir={cache}", f"store={store}", "fresh=True"]
        kit.main(words)
        (path,) = (path for path in cache.glob("colored_digits-*") if path.is_dir())
        if name.endswith("deep"):
            (path / "meta.json").write_text(deep())
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
        return BadInput(lambda: results_command(["--store", str(store)]), said="colored_digits")
    if name.startswith("store_runs_"):
        run()
        path = store / "1" / re.sub(r"store_runs_(\w+\.json).*", r"\1", name)
        path.unlink()
        if "fifo" in name:
            os.mkfifo(path)
        else:
            path.write_text(deep())
        return BadInput(
            lambda: results_command(["report", "--store", str(store), "--out", str(folder / "r.html")]), fine=True
        )
    return None


def _of_checkpoint(name: str, kit: Kit, folder: Path) -> BadInput | None:
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


def of_places(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    tls = "mongodb://127.0.0.1:1/db?tls=true&tlsCAFile=/nothere"
    if name == "t_env_tls_file":
        return BadInput(lambda: kit.main(kit.words(DIGITS, folder)), environment={"MONGO_URL": tls})
    urls = {
        "t_mongo_tls_file": tls, "t_mongo_backslash": r"mongodb://127.0.0.1\x:1/db",
        "t_mongo_newline": "mongodb://127.0.0.1:1/db\nx",
    }  # fmt: skip
    if name in urls:
        return plain(kit, folder, [*DIGITS, f"mongo_url={urls[name]}"])
    if name == "t_sync_tls_file":
        return plain(kit, folder, ["sync", "with", f"mongo_url={tls}"])
    if name.startswith("t_res_records_dataset_"):
        value = {"dict": '{""a"": 1}', "list": "[1]"}[name.rpartition("_")[2]]
        (folder / "f.csv").write_text(
            f'run,started,status,command,device,dataset,method,seed,model/average/last\nx,,COMPLETED,train,cpu,"{value}",erm,1,5\n'
        )
        return BadInput(lambda: results_command(["--records", "f.csv"]))
    return None
