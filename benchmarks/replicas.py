"""How much faster several seeds train together than one after another: one-seed seconds times seeds over joint seconds.

    python -m benchmarks.replicas                             stage 1 of DeNetDM, five seeds, one thread of the CPU
    python -m benchmarks.replicas --stage pretrain --network lenet --batch 16
    python -m benchmarks.replicas --device cuda --samples 60000

Both are the training loop of a real run on synthetic images of the size of Colored MNIST, without evaluation, timed in
turn; the ratio is taken pair by pair. An epoch of warm-up before each is not counted.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput import CASES, recipe_with, run_stage, settings_for, synthetic_task
from debias.data.split import Task
from debias.stages.recipes import stages_of
from debias.training.machine import device_name, pick_device, prepare_cpu
from debias.training.replicas import run_replicas
from debias.training.store import Store
from debias.training.walk import run_stages


def one_seed(stage: str, task: Task, device: torch.device, epochs: int, changes: Mapping[str, Any]) -> float:
    """Seconds of an epoch of one seed, the median."""
    times: list[float] = []
    method = recipe_with(stage)
    settings = settings_for(CASES[stage], method, stage, None, epochs + 1, changes)
    run_stage(method, stage, settings, task, device, times.append)
    return statistics.median(times[1:])


def at_once(
    stage: str, task: Task, device: torch.device, epochs: int, n_seeds: int, changes: Mapping[str, Any]
) -> float:
    """Seconds of an epoch of all seeds together, the median.

    Raises
    ------
    RuntimeError
        They were not trained together.
    """
    method = recipe_with(stage)
    settings = settings_for(CASES[stage], method, stage, None, epochs + 1, changes) | {"fresh": False}
    every = [settings | {"seed": seed} for seed in range(1, n_seeds + 1)]
    stages = stages_of(method, stage)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        failures = run_replicas(
            stages,
            [task] * n_seeds,
            every,
            device,
            store,
            say=lambda line: print(line, file=sys.stderr),
            progress=False,
        )
        if any(failures):
            raise RuntimeError(f"they were not trained: {failures}")
        outcome = run_stages(stages, task, every[0], device, store, say=lambda line: None, progress=False)
    report = outcome.stages[stage].report
    if report.replicas != n_seeds:
        raise RuntimeError(f"{stage}: not trained together")
    return statistics.median(row["seconds"] for row in report.history[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="branches", choices=("branches", "distill", "pretrain"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=12_800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", help="of pretrain, instead of its own")
    parser.add_argument("--batch", type=int, help="images in a batch, instead of the stage's own")
    options = parser.parse_args(arguments)
    prepare_cpu(options.threads)
    device = pick_device(options.device)
    task = synthetic_task(options.samples, 64)
    given = {"network": options.network, "batch_size": options.batch}
    changes = {name: value for name, value in given.items() if value is not None}
    pairs = [
        (
            one_seed(options.stage, task, device, options.epochs, changes),
            at_once(options.stage, task, device, options.epochs, options.seeds, changes),
        )
        for _ in range(options.rounds)
    ]
    ratios = [options.seeds * one / many for one, many in pairs]
    what = ", ".join([options.stage, *(f"{name} {value}" for name, value in changes.items())])
    print(
        f"{what}, {options.samples} images, {device_name(device)}: one seed "
        f"{statistics.median(one for one, _ in pairs):.2f} s an epoch, {options.seeds} together "
        f"{statistics.median(many for _, many in pairs):.2f} s: {statistics.median(ratios):.2f} times as fast as one "
        f"after another ({min(ratios):.2f} to {max(ratios):.2f}, n={options.rounds})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
