"""What a sweep costs beside its runs: seconds a trial for the plan, and for finding, locking and noting a trial.

python -m benchmarks.sweep --trials 20 --runs 200      with so many other runs in the store
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import main as program
from sweeps.engines.here import Here
from sweeps.plan import words_plan
from sweeps.run import run_sweep


def overhead(trials: int, runs: int) -> tuple[float, float]:
    """Seconds a trial (for the plan, for running it) of a sweep whose runs do nothing."""
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
        run_sweep(plan, Here(lambda _: None), lambda _: None)
        return (planned - started) / trials, (time.perf_counter() - planned) / trials
    finally:
        shutil.rmtree(store)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    planned, ran = overhead(options.trials, options.runs)
    print(f"{options.trials} trials beside {options.runs} runs: {planned:.3f} s a trial to plan, {ran:.3f} s to run")


if __name__ == "__main__":
    main()
