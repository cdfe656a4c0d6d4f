"""Speed of training on a CPU that is not alone: steps a second beside busy processes, by how threads wait.

    python -m benchmarks.threads                                   stage 1 of DeNetDM, quiet and beside 1 and 3 others
    python -m benchmarks.threads --stage pretrain --network lenet --threads 1 2 4
    python -m benchmarks.threads --policy torch GOMP_SPINCOUNT=1000 OMP_WAIT_POLICY=PASSIVE --json

Threads share the work of one operation after another, and in between they wait: spinning, which begins the next piece
of work immediately but takes a core from others, or asleep. OpenMP reads how long from the environment when torch is
loaded, so every policy is measured in a process of its own. It trains as a real run does, through the recipe and its
loop, on synthetic images of the size of Colored MNIST, while other processes keep cores busy. Policies take turns, and
each round starts every process again; figures are medians over rounds.

A policy is `ours` (what this program sets), `torch` (what it finds without), or a variable with its value.
"""

import debias.waiting as waiting

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput import CASES, default_batch, recipe_with, run_stage, settings_for, synthetic_task
from debias.stages.recipes import STAGES
from debias.training.machine import prepare_cpu

ROOT = Path(__file__).resolve().parents[1]
STEPS = 20  # of an epoch: few, so that the slowest policy ends too
POLICIES = ("ours", "torch", "OMP_WAIT_POLICY=PASSIVE")
SETTLE = 1.5  # seconds after which a process has noticed the others
BUSY = "while True: pass"


def serve(stage: str, threads: int, batch: int, network: str | None, seconds: float) -> None:
    """Train until the input ends; for every line of it, print the steps a second of about so many seconds.

    Between lines it waits. Epochs soon after a line are not counted: others have just started or ended.
    """
    prepare_cpu(threads)
    counted: list[float] | None = None
    begun = math.inf

    def after_epoch(trained: float) -> None:
        nonlocal counted, begun
        if counted is None:
            print("ready", flush=True)
        else:
            if time.monotonic() - trained < begun + SETTLE:
                return
            counted.append(trained)
            if sum(counted) < seconds:
                return
            print(STEPS * len(counted) / sum(counted), flush=True)
        if not sys.stdin.readline():
            raise EOFError
        counted, begun = [], time.monotonic()

    changes = {} if network is None else {"network": network}
    settings = settings_for(CASES[stage], recipe_with(stage), stage, batch, 10**6, changes)
    task = synthetic_task(STEPS * batch, batch, CASES[stage].grey)
    with contextlib.suppress(EOFError):
        run_stage(recipe_with(stage), stage, settings, task, torch.device("cpu"), after_epoch)


@contextlib.contextmanager
def busy(count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """So many processes that do nothing but use a core each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def environment(policy: str) -> dict[str, str]:
    """The environment of a process that waits by a policy."""
    kept = {name: value for name, value in os.environ.items() if name not in waiting.VARIABLES}
    if policy == "ours":
        return kept
    # What libgomp does by itself; without a variable this program would set its own.
    name, _, value = ("GOMP_SPINCOUNT=300000" if policy == "torch" else policy).partition("=")
    return kept | {name: value}


def measure(policy: str, arguments: Sequence[str], others: Sequence[int]) -> list[float]:
    """Steps a second beside each number of busy processes, of one fresh process.

    Raises
    ------
    RuntimeError
        The process ended before it had measured.
    """
    command = [sys.executable, "-m", "benchmarks.threads", "--serve", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(policy), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def answer() -> str:
            line = process.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise RuntimeError(f"{policy}: the process that was to be measured ended")
            return line

        answer()
        rates = []
        for count in others:
            with busy(count):
                print(file=process.stdin, flush=True)
                rates.append(float(answer()))
        process.stdin.close()
    return rates


def describe(found: Mapping[tuple[str, int, int], Sequence[float]], first: str) -> list[dict[str, Any]]:
    """A row for each policy, number of threads and number of others: its speed, and what it is a share of.

    `of_first` compares with the same threads under the first policy, `of_one_thread` with one thread under the same
    policy; both round by round, and None where there is nothing to compare with.
    """

    def share(rates: Sequence[float], beside: Sequence[float] | None) -> float | None:
        if beside is None:
            return None
        return statistics.median(own / other for own, other in zip(rates, beside, strict=True))

    return [
        {
            "policy": policy,
            "threads": threads,
            "others": others,
            "steps_per_second": {"median": statistics.median(rates), "least": min(rates), "most": max(rates)},
            "of_first": share(rates, found.get((first, threads, others))),
            "of_one_thread": share(rates, found.get((policy, 1, others))),
            "raw": list(rates),
        }
        for (policy, threads, others), rates in found.items()
    ]


def table(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as lines of text."""
    lines = [
        f"{about['stage']}{' ' + about['network'] if about['network'] else ''}, batches of {about['batch']}; "
        f"{about['cores']} cores; steps a second, n = {about['rounds']} times {about['seconds']:g} s",
        f"{'policy':<26}{'threads':>8}{'others':>8}{'steps/s':>10}{'least':>9}{'most':>9}"
        f"{'of first':>10}{'of 1 thread':>13}",
    ]

    def optional(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    for row in rows:
        speed = row["steps_per_second"]
        lines.append(
            f"{row['policy']:<26}{row['threads']:>8}{row['others']:>8}{speed['median']:>10.1f}{speed['least']:>9.1f}"
            f"{speed['most']:>9.1f}{optional(row['of_first']):>10}{optional(row['of_one_thread']):>13}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.threads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=tuple(CASES), default="branches")
    parser.add_argument("--network", help="of the stage, instead of its own")
    parser.add_argument("--batch", type=int, help="images in a batch; default: the stage's own")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads, each number in turn")
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 3], help="busy processes, each number in turn")
    parser.add_argument("--policy", nargs="+", default=POLICIES, metavar="POLICY", help="ours, torch, or NAME=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    batch = default_batch(given.stage) if given.batch is None else given.batch
    if batch < 1 or given.rounds < 1 or given.seconds <= 0 or min(given.threads) < 1 or min(given.others) < 0:
        parser.error("at least one round of one thread and one image is needed")
    networks = STAGES[given.stage].settings.get("network")
    if given.network and (networks is None or given.network not in (networks.choices or ())):
        parser.error(f"--network {given.network}: not one of the stage {given.stage}")
    for policy in given.policy:
        if policy not in ("ours", "torch") and policy.partition("=")[0] not in waiting.VARIABLES:
            parser.error(f"--policy {policy}: ours, torch, or one of {', '.join(waiting.VARIABLES)} with a value")
    if given.serve:
        serve(given.stage, given.threads[0], batch, given.network, given.seconds)
        return 0
    own = ["--stage", given.stage, "--batch", str(batch), "--seconds", str(given.seconds)]
    own += ["--network", given.network] if given.network else []
    found: dict[tuple[str, int, int], list[float]] = {}
    try:
        for _ in range(given.rounds):
            for policy in given.policy:
                for threads in given.threads:
                    rates = measure(policy, [*own, "--threads", str(threads)], given.others)
                    for others, rate in zip(given.others, rates, strict=True):
                        found.setdefault((policy, threads, others), []).append(rate)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = {
        "stage": given.stage, "network": given.network, "batch": batch, "rounds": given.rounds,
        "seconds": given.seconds, "cores": len(os.sched_getaffinity(0)), "ours": waiting.POLICY,
    }  # fmt: skip
    rows = describe(found, given.policy[0])
    print(json.dumps({**about, "rows": rows}) if given.json else table(about, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
