"""Processes that are killed, or find the disk full, at a file event: before the first write, rename or removal of a
file of a certain name.

Events are told by Python's audit hooks, which are called before the system is. They go by kind and name, not by time.
"""

import contextlib
import io
import json
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sacred.arg_parser import get_config_updates
from safetensors.torch import load_file

from debias import main
from debias.config import build_experiment, resolve
from debias.data.loading import load_task
from debias.stages.recipes import stages_of
from debias.training.replicas import run_replicas
from debias.training.store import Store
from tests.pipeline import empty_pictures, run_command

# Python's names, the place of the path that is made, changed or removed, and what to call it.
_AUDITED = {
    "open": (0, "write"), "os.rename": (1, "rename"), "os.remove": (0, "remove"), "os.mkdir": (0, "mkdir"),
    "shutil.copyfile": (1, "copy"), "shutil.rmtree": (0, "remove"),
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR


def watch(store: Path, seen: Callable[[str], None]) -> None:
    """Call `seen` with the name of each file event below a folder, from now on and for good."""
    root = os.fspath(store) + os.sep

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        place, kind = _AUDITED.get(event, (0, ""))
        if not kind or isinstance(arguments[place], int):
            return
        path = os.fsdecode(arguments[place])
        if not path.startswith(root) or (event == "open" and not _writes(arguments)):
            return
        name = event_name(path.removeprefix(root))
        if not name.endswith("lock"):
            seen(f"{kind} {name}")

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)


def event_name(path: str) -> str:
    """A path in a store without what differs from run to run: numbers of runs, processes and threads, keys,
    digests."""
    path = re.sub(r"^\d+(?=/|$)", "RUN", path)
    path = re.sub(r"(?<=[-_])[0-9a-f]{16,}", "KEY", path)
    return re.sub(r"(\.\d+)+(?=\.partial$|$)", "", path)


def run_watched(words: Sequence[str], store: str, output: str, record: str, die_at: str) -> None:
    """Run a command line; write its file events into a file, and be killed before the first that is called `die_at`."""
    events = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def seen(name: str) -> None:
        os.write(events, f"{name}\n".encode())
        if name == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(Path(store), seen)
    torch.set_num_threads(1)
    with empty_pictures():
        run_command(list(words), output)


def run_seeds(words: Sequence[str], store: str, output: str, record: str, die_at: str) -> None:
    """Train two seeds together; as `run_watched`, but that events of one name are numbered, as <name>#<n>."""
    events = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    counts: Counter[str] = Counter()

    def seen(name: str) -> None:
        counts[name] += 1
        os.write(events, f"{name}#{counts[name]}\n".encode())
        if f"{name}#{counts[name]}" == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(Path(store), seen)
    torch.set_num_threads(1)
    experiment = build_experiment()
    every = []
    for seed in (1, 2):
        updates, named = get_config_updates([*words, f"seed={seed}"])
        run = experiment._create_run("print_config", updates, named, None, None, {"--unobserved": True})
        every.append(resolve(dict(run.config)))
    stages, tasks = stages_of(every[0]["method"]), [load_task(own) for own in every]
    with Path(output).open("w") as said:
        failures = run_replicas(
            stages, tasks, every, torch.device("cpu"), Store(Path(store) / "stages"),
            say=lambda line: print(line, file=said, flush=True), progress=False,
        )  # fmt: skip
    sys.exit(any(failures))


def results_of(store: Path) -> dict[str, Any]:
    """What every stage of a store has given, but for the seconds it took."""
    return {path.parent.name: torch.load(path, weights_only=True) for path in sorted(store.glob("stages/*/result.pt"))}


def record_of(store: Path) -> dict[str, Any]:
    """Of the newest run: its values by metric, its figures and its weights."""
    folder = max((path for path in store.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    run, info, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "info", "metrics"))
    assert run["status"] == "COMPLETED"
    values = {name: (own["steps"], own["values"]) for name, own in metrics.items() if not name.endswith("/seconds")}
    return {"values": values, "summary": info["summary"], "weights": load_file(folder / "weights.safetensors")}


def left_over(store: Path) -> list[str]:
    """Files of finished stages that belong to none."""
    return [path.name for path in store.glob("stages/*/*") if path.name not in ("done.json", "result.pt", "lock")]


def fill_disks(words: Sequence[str], folder: str, output: str, every: int, once: bool) -> None:
    """Run a command line with room; then, for one in `every` of the files it writes, on a disk that is full from there
    on, or has no room for that file alone (`once`), and again with room. What came of it goes into `output`, as JSON.

    {place} in a word is a folder of its own for each. No file of this process may have a byte while the disk is full:
    that meets whatever writes, Python or not, and needs no rights.
    """
    torch.set_num_threads(1)
    place, events = Path(folder), list[str]()
    full_at = ""
    counts: Counter[str] = Counter()

    def seen(name: str) -> None:
        nonlocal full_at
        kind, _, path = name.partition(" ")
        if kind != "write":
            return
        path = path.partition("/")[2]
        counts[path] += 1
        numbered = f"{path}#{counts[path]}"
        if full_at == "":
            events.append(numbered)
        elif full_at == numbered:
            full_at = "reached"
            _limit_files(0)
        elif once and full_at == "reached":
            _limit_files(None)

    def run(store: Path) -> dict[str, Any]:
        said = io.StringIO()
        counts.clear()
        sys.__stderr__ = said  # type: ignore[misc,assignment]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), empty_pictures():
            status = main.main([word.replace("{place}", str(store)) for word in words])
        _limit_files(None)
        records = sorted(store.glob("runs/*/run.json"))
        return {
            "status": status,
            "said": said.getvalue(),
            "parts": [path.name for path in store.rglob(".*") if path.is_file() and path.suffix != ".lock"],
            "runs": [json.loads(path.read_text())["status"] for path in records],
        }

    watch(place, seen)
    found: list[dict[str, Any]] = [{"full_at": "", "first": run(place / "whole")}]
    for number, path in enumerate(events[::every]):
        full_at = path
        first = run(place / str(number))
        full_at = "no more"
        found.append({"full_at": path, "first": first, "again": run(place / str(number))})
    Path(output).write_text(json.dumps(found), encoding="utf-8")


def _limit_files(size: int | None) -> None:
    """Bytes that a file of this process may have; None: as many as before."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if size is None else size, most))
