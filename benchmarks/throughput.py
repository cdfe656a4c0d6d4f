"""Speed of a training stage on Colored MNIST: images a second, and its share of the matrix-product speed.

    python -m benchmarks.throughput                                stage 1 of DeNetDM in batches of 64, on the CPU
    python -m benchmarks.throughput --stage distill --threads 1 --json

The stage runs exactly as in a real run, through the recipe and its training loop, on synthetic images of the size and
sparsity of Colored MNIST. After every epoch a float32 product of two 2048 x 2048 matrices is timed in the same process
and on the same threads, so that a share compares what was measured side by side. Shares need FLOPs, counted two ways:

    executed   the products of a training step as they run; the first layers' inputs are data and get no gradient
    standard   three times the forward pass, the convention of most papers

The median over epochs says what to expect on this machine, the best what it can do when nothing else runs on it.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from config import Defaults, resolve
from data.split import Split, Task
from errors import UserError
from stages.machine import device_name, pick_device, prepare_cpu
from stages.recipes import RECIPES, STAGES, stages_of
from stages.run import Outcome, run_stages
from stages.store import Store

STAGE_NAMES = ("branches", "distill", "pretrain", "prune", "finetune")
SHAPE = (3, 28, 28)
CLASSES = 10
FOREGROUND = 0.19  # share of MNIST's pixels that are not black
PRODUCT = 2048
PRODUCTS = 3  # timed after each epoch
COUNTED = 4  # training batches of the run in which FLOPs are counted


@dataclass
class Speed:
    """Seconds of each epoch, training alone and with evaluation, and FLOP/s of the products before and after it."""

    train: list[float]
    epoch: list[float]
    products: list[list[float]]


def synthetic_task(samples: int, tests: int) -> Task:
    """Images that cost what Colored MNIST costs; nothing can be learnt from them."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        grey = torch.randint(0, 256, (n, 1, *SHAPE[1:]), generator=generator, dtype=torch.uint8)
        grey *= torch.rand(grey.shape, generator=generator) < FOREGROUND
        target, other = torch.randint(0, CLASSES, (2, n), generator=generator)
        conflicting = torch.rand(n, generator=generator) < 0.05
        return Split(
            grey.expand(-1, *SHAPE).contiguous(), target, torch.where(conflicting, other, target), torch.arange(n)
        )

    names = tuple(str(label) for label in range(CLASSES))
    return Task("synthetic", split(samples), split(tests), None, names, names, key=f"synthetic-{samples}-{tests}")


def run_stage(
    stage: str, task: Task, device: torch.device, batch: int, epochs: int, after_epoch: Callable[[float], None]
) -> Outcome:
    """Run the first recipe with a stage, up to and including it; stages before it get one epoch.

    Parameters
    ----------
    after_epoch
        Called after each epoch of the stage, evaluation included, with the seconds its training loop took.
    """
    method = next(name for name, recipe in RECIPES.items() if stage in recipe.stages)
    fixed: dict[str, Any] = {"dataset": "colored_mnist", "method": method, "checkpoint_seconds": 1e9, "fresh": True}
    for earlier in stages_of(method, stage):
        budget = {"steps": 0, "epochs": epochs if earlier.name == stage else 1, "batch_size": batch}
        fixed[earlier.name] = {name: value for name, value in budget.items() if name in earlier.settings}
    settings = resolve(Defaults()(fixed=fixed))

    def log(name: str, value: float, epoch: int) -> None:
        if name == f"{stage}/seconds":
            after_epoch(value)

    with tempfile.TemporaryDirectory() as folder:
        return run_stages(
            stages_of(method, stage),
            task,
            settings,
            device,
            Store(Path(folder)),
            log=log,
            say=lambda line: None,
            progress=False,
        )


def measure(stage: str, task: Task, device: torch.device, batch: int, epochs: int) -> Speed:
    """Time `epochs` epochs, after one of warm-up, and matrix products after each."""
    speed = Speed([], [], [])
    sides = torch.randn(2, PRODUCT, PRODUCT, device=device)
    started = math.nan

    def after_epoch(trained: float) -> None:
        nonlocal started
        whole = time.perf_counter() - started
        if not math.isnan(started):
            speed.train.append(trained)
            speed.epoch.append(whole)
        speed.products.append([product_speed(*sides) for _ in range(PRODUCTS)])
        started = time.perf_counter()

    product_speed(*sides)
    run_stage(stage, task, device, batch, epochs + 1, after_epoch)
    return speed


def product_speed(left: Tensor, right: Tensor) -> float:
    """FLOP/s of one product of two square matrices."""
    wait = torch.cuda.synchronize if left.device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    torch.mm(left, right)
    wait()
    return 2 * len(left) ** 3 / (time.perf_counter() - started)


def step_flops(stage: str, batch: int) -> tuple[float, float | None]:
    """FLOPs of one training step, (executed, standard); standard is None for networks that are no MLPs."""

    def one_epoch(tests: int) -> tuple[int, Outcome]:
        totals: list[int] = []
        with FlopCounterMode(display=False) as counter:
            outcome = run_stage(
                stage,
                synthetic_task(COUNTED * batch, tests),
                torch.device("cpu"),
                batch,
                epochs=2,
                after_epoch=lambda _: totals.append(counter.get_total_flops()),
            )
        return totals[1] - totals[0], outcome

    # An epoch's FLOPs grow linearly with the test images, so two counts give those of training alone.
    (with_one, outcome), (with_two, _) = one_epoch(1), one_epoch(2)
    executed = (2 * with_one - with_two) / COUNTED
    state: dict[str, Tensor] = outcome.artifacts[STAGES[stage].gives[0]]["states"]["last"]
    entries = [w for w in state.values() if w.ndim == 2 and w.shape[1] == math.prod(SHAPE)]
    inputs = 2 * batch * sum(entry.numel() for entry in entries)
    return executed, executed + inputs if entries else None


def describe(speed: Speed, samples: int, batch: int, executed: float, standard: float | None) -> dict[str, Any]:
    """All figures by name; a share is of the products timed just before and after its epoch."""
    steps = samples // batch
    before_and_after = [
        statistics.median(one + other) for one, other in zip(speed.products[:-1], speed.products[1:], strict=True)
    ]
    product = [value for timed in speed.products for value in timed]

    def share(flops: float | None) -> dict[str, float] | None:
        if flops is None:
            return None
        paired = [flops * steps / s / rate for s, rate in zip(speed.train, before_and_after, strict=True)]
        return {"median": statistics.median(paired), "best": flops * steps / min(speed.train) / max(product)}

    return {
        "images_per_second": {"median": samples / statistics.median(speed.train), "best": samples / min(speed.train)},
        "epoch_seconds": {"median": statistics.median(speed.epoch), "best": min(speed.epoch)},
        "evaluation_share": statistics.median(1 - t / e for t, e in zip(speed.train, speed.epoch, strict=True)),
        "product_gflops": {"median": statistics.median(product) / 1e9, "best": max(product) / 1e9},
        "share_executed": share(executed),
        "share_standard": share(standard),
        "step_mflop": {"executed": executed / 1e6, "standard": None if standard is None else standard / 1e6},
        "raw": asdict(speed),
    }


def table(about: dict[str, Any], figures: dict[str, Any]) -> str:
    """The figures as lines of text."""

    def pair(values: dict[str, float] | None, form: str) -> str:
        return "-" if values is None else f"{values['median']:{form}} (best {values['best']:{form}})"

    return "\n".join(
        [
            f"stage                    {about['stage']}, {about['samples']} images in batches of {about['batch']}",
            f"device                   {about['device']}",
            f"epochs                   {about['epochs']} after one of warm-up; median (best)",
            f"training loop, images/s  {pair(figures['images_per_second'], '.0f')}",
            f"epoch with evaluation, s {pair(figures['epoch_seconds'], '.2f')}",
            f"evaluation's share of it {figures['evaluation_share']:.1%} of {about['tests']} test images",
            f"matrix product, GFLOP/s  {pair(figures['product_gflops'], '.0f')}",
            f"share of it, executed    {pair(figures['share_executed'], '.3f')}",
            f"share of it, standard    {pair(figures['share_standard'], '.3f')}",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=STAGE_NAMES, default="branches")
    parser.add_argument("--samples", type=int, default=60000, help="training images; a sixth as many test images")
    parser.add_argument("--batch", type=int, default=64, help="images in a training batch")
    parser.add_argument("--epochs", type=int, default=5, help="epochs that are timed")
    parser.add_argument("--threads", type=int, help="CPU threads; left to torch when not given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    given = parser.parse_args(arguments)
    if given.batch < 1 or given.epochs < 1 or given.samples < given.batch:
        parser.error("at least one epoch of one batch is needed")
    if given.threads is not None and given.threads < 1:
        parser.error("at least one thread is needed")
    prepare_cpu(given.threads)
    try:
        device = pick_device(given.device)
        samples = given.samples // given.batch * given.batch
        task = synthetic_task(samples, max(1, samples // 6))
        speed = measure(given.stage, task, device, given.batch, given.epochs)
        figures = describe(speed, samples, given.batch, *step_flops(given.stage, given.batch))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = {name: getattr(given, name) for name in ("stage", "batch", "epochs")}
    about |= {"samples": samples, "tests": len(task.test), "device": device_name(device)}
    print(json.dumps(about | figures) if given.json else table(about, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
