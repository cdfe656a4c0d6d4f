"""Speed of a training stage on Colored MNIST: images a second, and its share of the matrix-product speed.

    python -m benchmarks.throughput                                stage 1 of DeNetDM in batches of 64, on the CPU
    python -m benchmarks.throughput --stage distill --threads 1 --json
    python -m benchmarks.throughput --stage prune --samples 5120   images a second beside dense training of its network

The stage runs exactly as in a real run, through the recipe and its training loop, on synthetic images of the size and
sparsity of Colored MNIST. After every epoch a float32 product of two 2048 x 2048 matrices is timed in the same process
and on the same threads, so that a share compares what was measured side by side. Shares need FLOPs, counted two ways:

    executed   the products of a training step as they run; the first layers' inputs are data and get no gradient
    standard   three times the forward pass, the convention of most papers

The median over epochs says what to expect on this machine, the best what it can do when nothing else runs on it.
A stage that adds something to a plain step is timed in turn with that step, and the ratio is taken pair by pair.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from debias.config import Defaults, resolve
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.training.artifacts import TrainedBranches, TrainedModel
from debias.training.machine import device_name, pick_device, prepare_cpu
from debias.training.store import Store
from debias.training.walk import Outcome, run_stages

SHAPE = (3, 28, 28)
CLASSES = 10
FOREGROUND = 0.19  # share of MNIST's pixels that are not black
PRODUCT = 2048
PRODUCTS = 3  # timed after each epoch
COUNTED = 4  # training batches of the run in which FLOPs are counted


@dataclass(frozen=True)
class Case:
    """A stage to time: the data set whose defaults it takes, and the plain step it is timed beside.

    `beside` is the stage of the plain step in the same recipe, with the settings `plain`; None: nothing is beside it.
    `grey`: grey images with a colour beside them, instead of coloured ones.
    """

    dataset: str = "colored_mnist"
    beside: str | None = None
    plain: Mapping[str, Any] = field(default_factory=dict)
    grey: bool = False


CASES = {
    "branches": Case(),
    "distill": Case(),
    "pretrain": Case(),
    "prune": Case(beside="pretrain"),
    "finetune": Case(beside="pretrain"),
    "end": Case("biased_mnist", beside="end", plain={"alpha": 0.0, "beta": 0.0}),
    "fisher": Case("bimodal_mnist", beside="fisher", plain={"perturb": 0.0}, grey=True),
}


@dataclass
class Speed:
    """Seconds of each epoch, training alone and with evaluation, and FLOP/s of the products before and after it."""

    train: list[float]
    epoch: list[float]
    products: list[list[float]]


def synthetic_task(samples: int, tests: int, beside: bool = False) -> Task:
    """Images that cost what Colored MNIST costs, or with the colour beside them; nothing can be learnt from them."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        grey = torch.randint(0, 256, (n, 1, *SHAPE[1:]), generator=generator, dtype=torch.uint8)
        grey *= torch.rand(grey.shape, generator=generator) < FOREGROUND
        target, other = torch.randint(0, CLASSES, (2, n), generator=generator)
        conflicting = torch.rand(n, generator=generator) < 0.05
        if beside:
            return Split(grey, target, target, torch.arange(n), torch.rand(n, 3, generator=generator))
        return Split(
            grey.expand(-1, *SHAPE).contiguous(), target, torch.where(conflicting, other, target), torch.arange(n)
        )

    names = tuple(str(label) for label in range(CLASSES))
    return Task("synthetic", split(samples), split(tests), None, names, names, key=f"synthetic-{samples}-{tests}")


def settings_for(
    case: Case, method: str, stage: str, batch: int | None, epochs: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings under which a stage of a recipe trains `epochs` epochs, and every stage before it one."""
    fixed: dict[str, Any] = {"dataset": case.dataset, "method": method, "checkpoint_seconds": 1e9, "fresh": True}
    for each in stages_of(method, stage):
        budget: dict[str, Any] = {"steps": 0, "epochs": epochs if each.name == stage else 1}
        if batch is not None:
            budget["batch_size"] = batch
        if each.name == stage:
            budget |= changes
        fixed[each.name] = {name: value for name, value in budget.items() if name in each.settings}
    return resolve(Defaults()(fixed=fixed))


def recipe_with(stage: str) -> str:
    """The first recipe that has a stage."""
    return next(name for name, recipe in RECIPES.items() if stage in recipe.stages)


def default_batch(stage: str) -> int:
    """Images in a batch of a stage by its recipe's default."""
    method = recipe_with(stage)
    return int(settings_for(CASES[stage], method, stage, None, 1, {})[stage]["batch_size"])


def run_stage(
    method: str,
    stage: str,
    settings: Mapping[str, Any],
    task: Task,
    device: torch.device,
    after_epoch: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Run a recipe up to and including a stage.

    Parameters
    ----------
    after_epoch
        Called after each epoch of the stage, evaluation included, with the seconds its training loop took.
    """

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


def measure(stage: str, task: Task, device: torch.device, batch: int, epochs: int, product: int = PRODUCT) -> Speed:
    """Time `epochs` epochs, after one of warm-up, and products of matrices of `product` rows after each."""
    speed = Speed([], [], [])
    sides = torch.randn(2, product, product, device=device)
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
    method = recipe_with(stage)
    settings = settings_for(CASES[stage], method, stage, batch, epochs + 1, {})
    run_stage(method, stage, settings, task, device, after_epoch)
    return speed


def measure_beside(
    stage: str, task: Task, device: torch.device, batch: int, epochs: int, rounds: int
) -> list[tuple[float, float]]:
    """Seconds of an epoch (the stage, the plain step beside it), timed in turn; an epoch of warm-up before each."""
    case, method = CASES[stage], recipe_with(stage)
    assert case.beside is not None

    def seconds(name: str, changes: Mapping[str, Any]) -> float:
        times: list[float] = []
        settings = settings_for(case, method, name, batch, epochs + 1, changes)
        run_stage(method, name, settings, task, device, times.append)
        return statistics.median(times[1:])

    return [(seconds(stage, {}), seconds(case.beside, case.plain)) for _ in range(rounds)]


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
    method = recipe_with(stage)
    settings = settings_for(CASES[stage], method, stage, batch, 2, {})

    def one_epoch(tests: int) -> tuple[int, Outcome]:
        totals: list[int] = []
        with FlopCounterMode(display=False) as counter:
            outcome = run_stage(
                method,
                stage,
                settings,
                synthetic_task(COUNTED * batch, tests),
                torch.device("cpu"),
                lambda _: totals.append(counter.get_total_flops()),
            )
        return totals[1] - totals[0], outcome

    # An epoch's FLOPs grow linearly with the test images, so two counts give those of training alone.
    (with_one, outcome), (with_two, _) = one_epoch(1), one_epoch(2)
    executed = (2 * with_one - with_two) / COUNTED
    trained = outcome.artifacts[STAGES[stage].gives[0]]
    assert isinstance(trained, TrainedModel | TrainedBranches)
    state = trained.states["last"]
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


def describe_beside(stage: str, pairs: Sequence[tuple[float, float]], samples: int) -> dict[str, Any]:
    """Images a second of both, and the speed of the stage as a share of the plain step's, pair by pair."""
    shares = [plain / own for own, plain in pairs]
    case = CASES[stage]
    plain = " ".join([str(case.beside), *(f"{name}={value:g}" for name, value in case.plain.items())])
    return {
        "beside": plain,
        "images_per_second": samples / statistics.median(own for own, _ in pairs),
        "plain_images_per_second": samples / statistics.median(plain for _, plain in pairs),
        "speed_ratio": {"median": statistics.median(shares), "least": min(shares), "most": max(shares)},
        "raw": {"pairs": [list(pair) for pair in pairs]},
    }


def table_beside(about: dict[str, Any], figures: dict[str, Any]) -> str:
    """The figures of a stage beside its plain step as lines of text."""
    ratio = figures["speed_ratio"]
    return "\n".join(
        [
            f"stage                    {about['stage']}, {about['samples']} images in batches of {about['batch']}",
            f"device                   {about['device']}",
            f"timed in turn            {len(figures['raw']['pairs'])} pairs, {about['epochs']} epochs each",
            f"training loop, images/s  {figures['images_per_second']:.0f}",
            f"the plain step beside it {figures['plain_images_per_second']:.0f} ({figures['beside']})",
            f"speed, stage : plain     {ratio['median']:.3f} ({ratio['least']:.3f} to {ratio['most']:.3f})",
        ]
    )


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
    parser.add_argument("--stage", choices=tuple(CASES), default="branches")
    parser.add_argument("--samples", type=int, default=60000, help="training images; a sixth as many test images")
    parser.add_argument("--batch", type=int, help="images in a training batch; default: the stage's own")
    parser.add_argument("--epochs", type=int, default=5, help="epochs that are timed")
    parser.add_argument("--rounds", type=int, default=5, help="pairs that are timed, for stages with a plain step")
    parser.add_argument("--product", type=int, default=PRODUCT, help="rows of the matrices whose product is timed")
    parser.add_argument("--threads", type=int, help="CPU threads; left to torch when not given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    given = parser.parse_args(arguments)
    batch = default_batch(given.stage) if given.batch is None else given.batch
    if batch < 1 or given.epochs < 1 or given.rounds < 1 or given.samples < batch:
        parser.error("at least one epoch of one batch is needed")
    if given.threads is not None and given.threads < 1:
        parser.error("at least one thread is needed")
    prepare_cpu(given.threads)
    samples = given.samples // batch * batch
    task = synthetic_task(samples, max(1, samples // 6), CASES[given.stage].grey)
    about: dict[str, Any] = {"stage": given.stage, "batch": batch, "epochs": given.epochs}
    about |= {"samples": samples, "tests": len(task.test)}
    try:
        device = pick_device(given.device)
        about["device"] = device_name(device)
        if CASES[given.stage].beside is None:
            speed = measure(given.stage, task, device, batch, given.epochs, given.product)
            figures = describe(speed, samples, batch, *step_flops(given.stage, batch))
            text = table
        else:
            pairs = measure_beside(given.stage, task, device, batch, given.epochs, given.rounds)
            figures = describe_beside(given.stage, pairs, samples)
            text = table_beside
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(about | figures) if given.json else text(about, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
