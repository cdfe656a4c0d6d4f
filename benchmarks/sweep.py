"""What a sweep costs beside its runs: seconds a trial for the plan, and for finding, locking and noting a trial.

python -m benchmarks.sweep --trials 20 --runs 200      with so many other runs in the store
python -m benchmarks.sweep --engine jobs               in two processes of this machine, or `ray`: once they are up
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import importlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from debias import main as program
from debias.sweeps.drive import run_sweep
from debias.sweeps.engines.base import Engine
from debias.sweeps.engines.here import Here
from debias.sweeps.engines.on_ray import OnRay
from debias.sweeps.engines.processes import Processes
from debias.sweeps.plan import words_plan


def nothing(words: Sequence[str]) -> None:
    """A run that ends immediately."""


ENGINES: dict[str, Callable[[], Engine]] = {
    "here": lambda: Here(nothing),
    "jobs": lambda: Processes(2, nothing),
    "ray": lambda: OnRay(gpus=0, run=nothing),
}


def overhead(trials: int, runs: int, engine: str = "here") -> tuple[float, float, float]:
    """Seconds a trial (for the plan, for running it) of a sweep whose runs do nothing, and seconds until it can begin.

    What begins is as many trials as the engine has slots, so that each of its processes is there.
    """
    experiment = program.build()
    store = Path(tempfile.mkdtemp())
    try:
        words = [f"store={store}", "colored_digits", f"seed=1..{trials}"]
        config = dict(experiment._create_run("print_config", {}, (), None, None, {"--unobserved": True}).config)
        for number in range(1, runs + 1):
            folder = store / str(number)
            folder.mkdir()
            run = {"command": "train", "status": "COMPLETED", "meta": {"uid": str(number)}}
            (folder / "run.json").write_text(json.dumps(run))
            (folder / "config.json").write_text(json.dumps(config | {"seed": 10**6 + number}))
            (folder / "info.json").write_text(json.dumps({"summary": {"target/unbiased/last": 50.0}}))
        started = time.perf_counter()
        plan = words_plan(experiment, words)
        planned = time.perf_counter()
        used = ENGINES[engine]()
        try:
            first = words_plan(experiment, [*words[:2], f"seed={trials + 1}..{trials + used.slots}"])
            waited = time.perf_counter()
            run_sweep(first, used, lambda _: None)
            ready = time.perf_counter()
            states = run_sweep(plan, used, lambda _: None)
            assert {state.error for state in states} == {"the run left no figures"}
            return (planned - started) / trials, (time.perf_counter() - ready) / trials, ready - waited
        finally:
            used.close()
    finally:
        shutil.rmtree(store)


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--engine", choices=ENGINES, default="here")
    options = parser.parse_args()
    planned, ran, begun = overhead(options.trials, options.runs, options.engine)
    print(
        f"{options.engine}, {options.trials} trials beside {options.runs} runs: {planned:.3f} s a trial to plan, ",
        end="",
    )
    print(f"{ran:.3f} s to run; first ones after {begun:.1f} s")


if __name__ == "__main__":
    # By its name, under which other processes find what they are to run.
    importlib.import_module("benchmarks.sweep").main()
