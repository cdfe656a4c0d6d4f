"""A sweep that is run in seconds: 2 methods x 2 skews x 2 seeds of the embedded digits; runs that do not end well."""

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from debias.sweeps.drive import State
from debias.sweeps.engines.worker import VARIABLES
from debias.sweeps.work import run_trial

SMALL = [
    "colored_digits", "method=erm,depth_balanced", "skew=0.02,0.05", "seed=1,2", "limit=600", "threads=1",
    "progress=False", "pictures=False", "pretrain.epochs=1", "branches.epochs=1", "mine_depth.epochs=1",
    "bias_balanced.epochs=1",
]  # fmt: skip

# The same for a search: held-out images, and epochs enough to give a trial up.
SEARCH = [
    "colored_digits", "erm", "limit=600", "pretrain.epochs=4", "threads=1", "progress=False", "pictures=False",
    "valid_fraction=0.2",
]  # fmt: skip

# A search of two settings.
GIVEN = {
    "settings": {"pretrain.learning_rate": "default", "pretrain.batch_size": {"choice": [32, 64]}},
    "objective": "valid/model/average",
    "trials": 3,
}

# Where a rate is hopeless, which is asked for last: six cells of a grid, in order.
RATES = [0.003, 0.004, 0.005, 0.006, 0.007, 0.0]
HOPELESS = {
    "settings": {"pretrain.learning_rate": {"choice": RATES}},
    "objective": "valid/model/average",
    "trials": 6,
    "sampler": "grid",
}


def runs_in(store: Path) -> list[Path]:
    """The run folders of a store."""
    return [path for path in store.iterdir() if path.name.isdigit()]


def statuses(store: Path) -> list[str]:
    """How each run of a store ended, in order."""
    return [json.loads((store / str(n) / "run.json").read_text())["status"] for n in range(1, 1 + len(runs_in(store)))]


def figures(states: Sequence[State]) -> dict[str, dict[str, float]]:
    """The summary of each trial that is finished."""
    return {state.trial.key: state.record.summary for state in states if state.record is not None}


def setting(words: Sequence[str], name: str) -> str:
    """The value of a setting among words."""
    return [word.partition("=")[2].strip("'") for word in words if word.startswith(f"{name}=")][-1]


def dies_once(words: Sequence[str]) -> None:
    """The first one of a store is killed as soon as its run folder says that it is running."""
    store = Path(setting(words, "store"))
    try:
        (store / "died").touch(exist_ok=False)
        threading.Thread(target=_kill_when_running, args=(store, words), daemon=True).start()
    except FileExistsError:
        pass
    run_trial(words)


def dies_always(words: Sequence[str]) -> None:
    """With seed 2."""
    if setting(words, "seed") == "2":
        os.kill(os.getpid(), signal.SIGKILL)


def prints_and_fails(words: Sequence[str]) -> None:
    """On standard output, on standard error and past Python."""
    print("to the output")
    os.write(2, b"past Python\n")
    raise RuntimeError("no\nmemory left")


def tells(words: Sequence[str]) -> None:
    """Fails with what a run finds around it."""
    names = (*VARIABLES, "CUDA_VISIBLE_DEVICES")
    found = {name: os.environ.get(name) for name in names} | {"folder": str(Path.cwd())}
    raise RuntimeError(json.dumps(found | {"threads": torch.get_num_threads()}))


def _kill_when_running(store: Path, words: Sequence[str]) -> None:
    mine = {"method": setting(words, "method")}
    mine |= {name: float(setting(words, name)) for name in ("skew", "seed")}
    while True:
        for config in store.glob("[0-9]*/config.json"):
            try:
                found = json.loads(config.read_text(encoding="utf-8"))
            except ValueError:  # it is being written
                continue
            if mine == {name: found.get(name) for name in mine}:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
