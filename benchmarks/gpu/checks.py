"""Phases about right and wrong: the machine, the tests that need a GPU, every recipe, the same numbers twice."""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import only_gpu
from benchmarks.gpu.cases import difference, one_epoch, order, tensors_of
from benchmarks.gpu.folders import stored_result
from benchmarks.gpu.record import Call
from benchmarks.gpu.sides import Side, concurrently, tail
from debias import main
from debias.stages.recipes import RECIPES
from debias.training.machine import device_name, prepare_cpu

ROOT = Path(__file__).resolve().parents[2]
NO_TESTS = 5  # pytest's exit status
# Data sets of methods that are about one; the others take coloured digits.
DATA = {
    "end": "biased_digits",
    "lntl": "jitter_digits",
    "lntl_pretrained": "jitter_digits",
    "fisher": "bimodal_digits",
}


def seconds_of(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of a call, the mean; the first one is not counted."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    function()
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    wait()
    return (time.perf_counter() - started) / repeats


def machine(call: Call, limit: float) -> bool:
    """What the card is, and what it can do: products, launches, launches within a graph."""
    return call.record.attempt("machine", "machine", partial(_machine, call, torch.device(call.device)))


def _machine(call: Call, device: torch.device) -> dict[str, Any]:
    prepare_cpu(2)
    small = torch.ones(1000, device=device)
    cores = len(os.sched_getaffinity(0))
    figures: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__, "cpu_cores": cores}
    figures["launch_us"] = 1e6 * seconds_of(lambda: small.add_(1), device, 100 if call.small else 3000)
    side = 256 if call.small else 4096
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.randn(side, side, device=device, dtype=kind)
        took = seconds_of(lambda matrix=matrix: matrix @ matrix, device, 10)  # type: ignore[misc]
        figures[f"{name}_tflops"] = 2 * side**3 / took / 1e12
    if device.type == "cuda":
        figures |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        figures["cudnn_tf32"] = torch.backends.cudnn.allow_tf32
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(100):
                small.add_(1)
        figures["graph_node_us"] = 1e6 * seconds_of(graph.replay, device, 100) / 100
    return figures


def run_tests(file: str, cache: str, counts: str) -> int:
    """Run a file's tests that need a GPU; their numbers go into a file. The exit status, 0 when there were none."""
    os.chdir(ROOT)
    os.environ[only_gpu.COUNTS] = counts
    sys.argv = ["pytest", "-p", only_gpu.__name__, "-rf", "--no-header", "--tb=short", "-o", f"cache_dir={cache}", file]
    try:
        runpy.run_module("pytest", run_name="__main__")
    except SystemExit as end:
        return 0 if end.code == NO_TESTS else int(end.code or 0)
    return 0


def gpu_tests() -> list[str]:
    """The files with tests that ask whether there is a GPU, relative to the project's root."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(p.relative_to(ROOT)) for p in paths if "cuda.is_available()" in p.read_text(encoding="utf-8")]


def run_words(words: list[str]) -> int:
    """A command line of the program."""
    os.chdir(ROOT)
    return main.main(words)


def correct(call: Call, limit: float) -> bool:
    """The tests that need a GPU and every recipe with its own networks on few images, side by side."""
    record, folder = call.record, call.work / "correct"
    store = {method: folder / method for method in list(RECIPES)[: 1 if call.small else None]}
    counts = {file: folder / f"{Path(file).stem}.json" for file in gpu_tests() if not call.small or "metrics" in file}
    jobs = []
    for file, path in counts.items():
        arguments = (file, str(call.work / "pytest"), str(path))
        jobs.append(Side(file, run_tests, arguments, folder / f"{Path(file).stem}.log"))
    for method, own in store.items():
        words = ["with", DATA.get(method, "colored_digits"), method, "quick", "limit=1200", f"device={call.device}"]
        words += ["threads=1", "progress=False", f"cache_dir={call.cache}", f"store={own}"]
        words += ["pretrain.steps=0", "pretrain.epochs=1"] if call.small else []
        jobs.append(Side(method, run_words, (words,), folder / f"{method}.log"))

    def ended(job: Side, status: int | None, seconds: float) -> None:
        figures: dict[str, Any] = {"took": round(seconds, 1), "status": status}
        if job.case in counts and counts[job.case].is_file():
            figures |= json.loads(counts[job.case].read_text(encoding="utf-8"))
        elif job.case in store:
            figures["result"] = stored_result(store[job.case])
        if status != 0:
            figures["failed"] = "out of time" if status is None else tail(job.log)
        record.note("correct", job.case, done=status == 0, **figures)

    folder.mkdir(parents=True, exist_ok=True)
    jobs = [job for job in jobs if not record.finished("correct", job.case)]
    concurrently(jobs, len(os.sched_getaffinity(0)), limit, ended)
    return all(record.finished("correct", case) for case in (*counts, *store))


def repeat(call: Call, limit: float) -> bool:
    """Twice the same training: equal to the last bit or not, with cuDNN's deterministic algorithms and without."""
    prepare_cpu(2)
    stages = order()[: 1 if call.small else None]
    ways = {"as it is": False} if call.small else {"as it is": False, "deterministic": True}
    every = [
        call.record.attempt("repeat", f"{stage}, {way}", partial(_repeat, call, stage, deterministic))
        for way, deterministic in ways.items()
        for stage in stages
    ]
    return all(every)


def _repeat(call: Call, stage: str, deterministic: bool) -> dict[str, Any]:
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = before or deterministic
    try:
        runs = [one_epoch(stage, 2 if call.small else 8, torch.device(call.device), {}) for _ in range(2)]
    finally:
        torch.backends.cudnn.deterministic = before
    worst = difference(*(tensors_of(run, stage) for run in runs))
    return {"stage": stage, "worst": worst, "speed": runs[0].stages[stage].report.speed}
