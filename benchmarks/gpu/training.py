"""Phases of whole trainings: DeNetDM's table 1 as one process, and runs of other papers side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.checks import run_words
from benchmarks.gpu.folders import epochs_of, figures_of, stored_result
from benchmarks.gpu.record import Call
from benchmarks.gpu.sides import Side, concurrently, tail
from debias.config import Defaults, resolve
from debias.data.loading import load_task
from debias.stages.recipes import stages_of
from debias.training.machine import prepare_cpu
from debias.training.replicas import run_replicas
from debias.training.store import Store
from debias.training.walk import run_stages

SKEWS, SEEDS = (0.005, 0.01, 0.02, 0.05), (1, 2, 3, 4, 5)


class PaperRun(NamedTuple):
    """A run beside a published figure: words as after `with`, and the unbiased accuracy of the paper in %, if any."""

    words: str
    published: float | None = None


# In the order of their value; what does not fit beside the first ones waits. ResNet-20, where papers take a ResNet-18
# that starts from ImageNet's weights, which are not carried.
OTHERS = (
    PaperRun(
        "corrupted_cifar10 type0 skewed1 severity4 denetdm branches.deep=resnet20 distill.network=resnet20", 56.30
    ),
    PaperRun("biased_mnist rho997 end", 83.70),
    PaperRun("jitter_mnist var020 lntl", 81.85),
    PaperRun("colored_mnist skewed1 severity4 dcwp"),
    PaperRun("jitter_mnist var020 erm"),
    PaperRun("bimodal_mnist fisher"),
    PaperRun("colored_mnist skewed2 severity4 dcwp"),
    PaperRun("colored_mnist skewed3 severity4 dcwp"),
    PaperRun("colored_mnist skewed4 severity4 dcwp"),
)
SMALL = (
    PaperRun("colored_digits erm limit=600 pretrain.steps=0 pretrain.epochs=1"),
    PaperRun("colored_digits erm limit=600 pretrain.steps=0 pretrain.epochs=2", 50.0),
)
AT_ONCE = 4
TICK = 20.0  # seconds between notes of a run that is going on


def table1(call: Call, limit: float) -> bool:
    """4 skews x 5 seeds stacked into one training of each stage; what is stored of an earlier call is not repeated."""
    prepare_cpu(2)
    record = call.record
    pairs = [(skew, seed) for skew in SKEWS for seed in SEEDS][: 2 if call.small else None]
    every = [_table1_settings(call, skew, seed) for skew, seed in pairs]
    started = time.monotonic()
    # Data sets are built beside each other; then they come from the cache.
    jobs = [Side(str(number), _build, (own,), call.work / "data.log") for number, own in enumerate(every)]
    concurrently(jobs, len(os.sched_getaffinity(0)), limit, lambda job, status, seconds: None)
    tasks = [load_task(own) for own in every]
    record.note("table1", "data", seconds=round(time.monotonic() - started, 1))
    device, store = torch.device(call.device), Store(call.work / "stages")
    for last in ("branches", "distill"):
        stages = stages_of("denetdm", last)
        started = time.monotonic()
        failures = run_replicas(stages, tasks, every, device, store)
        seconds = round(time.monotonic() - started, 1)
        for (skew, seed), own, task, failure in zip(pairs, every, tasks, failures, strict=True):
            case = f"{last} skew={skew} seed={seed}"
            if failure is not None:
                record.note("table1", case, done=False, failed=str(failure)[:400])
            elif not record.finished("table1", case):
                record.note("table1", case, **_table1_figures(call, last, own, task, device, store))
        if any(failures):
            return False
        if not record.finished("table1", last):
            record.note("table1", last, runs=len(pairs), seconds=seconds)
    return True


def _table1_settings(call: Call, skew: float, seed: int) -> dict[str, Any]:
    fixed: dict[str, Any] = {"dataset": "colored_mnist", "method": "denetdm", "skew": skew, "seed": seed}
    fixed |= {"data_dir": call.data, "cache_dir": str(call.cache), "checkpoint_seconds": 60.0}
    fixed["distill"] = {"teacher": "oracle"}  # as the paper's code selects
    if call.small:
        fixed |= {"dataset": "colored_digits", "limit": 600, "branches": {"epochs": 1}}
        fixed["distill"] |= {"epochs": 1}
    return resolve(Defaults()(fixed=fixed))


def _build(settings: Mapping[str, Any]) -> int:
    load_task(settings)
    return 0


def _table1_figures(
    call: Call, last: str, own: Mapping[str, Any], task: Any, device: torch.device, store: Store
) -> dict[str, Any]:
    outcome = run_stages(stages_of("denetdm", last), task, own, device, store, say=lambda line: None, progress=False)
    report = outcome.stages[last].report
    figures = {name: round(value, 2) for name, value in outcome.summary.items() if "/unbiased/" in name}
    return {
        "stage": last,
        "skew": own["skew"],
        "seed": own["seed"],
        "replicas": report.replicas,
        "speed": report.speed,
        "epoch_seconds": round(sum(row["seconds"] for row in report.history) / len(report.history), 3),
        "figures": figures,
    }


def others(call: Call, limit: float) -> bool:
    """Runs of other papers, four at a time; each notes its end, and one that is cut its epochs so far."""
    record, folder = call.record, call.work / "others"
    papers = {paper.words: paper for paper in (SMALL if call.small else OTHERS)}
    stores = {words: folder / words.replace(" ", "-").replace("=", "-") for words in papers}
    common = [f"device={call.device}", "threads=2", "progress=False", f"cache_dir={call.cache}"]
    common += ["checkpoint_seconds=20.0"] + ([f"data_dir={call.data}"] if call.data else [])
    jobs = [
        Side(
            words, run_words, (["with", *words.split(), *common, f"store={stores[words]}"],), store.with_suffix(".log")
        )
        for words, store in stores.items()
        if not record.finished("others", words)
    ]

    def so_far(job: Side) -> None:
        if epochs := epochs_of(stores[job.case]):
            record.note("others", job.case, done=False, going_on=True, epochs=epochs)

    def ended(job: Side, status: int | None, seconds: float) -> None:
        store = stores[job.case]
        figures: dict[str, Any] = {"seconds": round(seconds, 1), "published": papers[job.case].published}
        if status == 0:
            figures |= {"result": stored_result(store), "figures": figures_of(store)}
        else:
            # Its checkpoint stays: the next call resumes there.
            figures |= {"epochs": epochs_of(store)}
            figures["failed"] = "out of time" if status is None else tail(job.log)
        record.note("others", job.case, done=status == 0, **figures)

    concurrently(jobs, AT_ONCE, limit, ended, so_far, every=TICK)
    return all(record.finished("others", words) for words in papers)
