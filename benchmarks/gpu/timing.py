"""Phases about speed: a step of every stage, eager and captured, several seeds together, and a graph by itself."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from benchmarks.gpu.cases import case_of, difference, images, one_epoch, order, settings_of, tensors_of, trained
from benchmarks.gpu.checks import seconds_of
from benchmarks.gpu.record import Call
from benchmarks.replicas import at_once, one_seed
from debias.models.branches import build_branches
from debias.training.machine import prepare_cpu
from debias.training.optimisers import make_optimiser

EPOCHS = 3  # the first is not counted
# A stage with another network, where convolutions decide.
NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pretrain", {"network": "resnet20"}),
    ("pretrain", {"network": "cnn"}),
)
SEVERAL: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("branches", {}, 5),
    ("branches", {}, 20),
    ("distill", {}, 5),
    ("pretrain", {"network": "cnn"}, 5),
)
EXACT = {"bfloat16": "off", "channels_last": "off"}
GRAPH = "graph"  # the setting that has steps captured


def name_of(stage: str, changes: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """A case in words."""
    return " ".join([stage, *(f"{name}={value}" for name, value in {**changes, **run}.items())])


def ways(device: torch.device) -> list[dict[str, str]]:
    """How steps are run: eager and captured, or as they are where there is no choice."""
    return [{GRAPH: "off"}, {GRAPH: "on"}] if device.type == "cuda" else [{}]


def speed(call: Call, limit: float) -> bool:
    """Microseconds of a step; whether captured steps give the same numbers; several seeds simultaneously beside one."""
    prepare_cpu(2)
    device, record = torch.device(call.device), call.record
    steps = 2 if call.small else 100
    rows: list[tuple[str, dict[str, Any]]] = [(stage, {}) for stage in order()[: 1 if call.small else None]]
    if not call.small:
        rows += NETWORKS
    good = []
    for stage, changes in rows:
        for run in ways(device):
            case = name_of(stage, changes, run)
            good.append(record.attempt("speed", case, partial(_step, stage, steps, device, changes, run)))
        if len(ways(device)) > 1:
            case = f"{name_of(stage, changes, {})}, eager and captured"
            good.append(record.attempt("speed", case, partial(_agree, stage, min(steps, 20), device, changes)))
    for stage, changes, n_seeds in ((*SEVERAL[0][:2], 2),) if call.small else SEVERAL:
        case = f"{name_of(stage, changes, {})}, {n_seeds} seeds together"
        good.append(record.attempt("speed", case, partial(_several, stage, n_seeds, steps, device, changes)))
    if not call.small and device.type == "cuda":
        for stage, changes in (("end", {}), ("fisher", {}), *NETWORKS):
            run = {**ways(device)[-1], **EXACT}
            good.append(
                record.attempt(
                    "speed", name_of(stage, changes, run), partial(_step, stage, steps, device, changes, run)
                )
            )
    return all(good)


def _step(
    stage: str, steps: int, device: torch.device, changes: Mapping[str, Any], run: Mapping[str, Any]
) -> dict[str, Any]:
    outcome, times, batch = trained(stage, steps, EPOCHS, device, changes, run)
    took = statistics.median(times[1:])
    report = outcome.stages[stage].report.speed
    return {
        "stage": stage,
        "batch": batch,
        "step_us": round(1e6 * took / steps, 1),
        "images_per_second": round(steps * batch / took),
        "speed": report,
    }


def _agree(stage: str, steps: int, device: torch.device, changes: Mapping[str, Any]) -> dict[str, Any]:
    eager, again, captured = (
        one_epoch(stage, steps, device, {GRAPH: graph}, changes) for graph in ("off", "off", "on")
    )
    one, two, three = (tensors_of(run, stage) for run in (eager, again, captured))
    return {"stage": stage, "worst": difference(one, three), "worst_of_two_eager": difference(one, two)}


def _several(stage: str, n_seeds: int, steps: int, device: torch.device, changes: Mapping[str, Any]) -> dict[str, Any]:
    batch = int(settings_of(stage, 1, changes, {})[stage]["batch_size"])
    task = images(steps * batch, case_of(stage).grey)
    one = one_seed(stage, task, device, EPOCHS - 1, changes)
    together = at_once(stage, task, device, EPOCHS - 1, n_seeds, changes)
    return {
        "stage": stage,
        "seeds": n_seeds,
        "step_us": round(1e6 * together / steps, 1),
        "one_us": round(1e6 * one / steps, 1),
        "times_as_fast": round(n_seeds * one / together, 2),
    }


def graphs(call: Call, limit: float) -> bool:
    """Stage 1's network and optimiser by themselves: is a step of theirs captured, and is it the same step."""
    prepare_cpu(2)
    return call.record.attempt("graphs", "stage 1 by itself", partial(_graphs, torch.device(call.device), call.small))


def _made(device: torch.device) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    branches = build_branches({"shallow": "mlp3", "deep": "mlp5", "shape": [3, 28, 28], "classes": 10}).to(device)
    model = branches.join()
    return model, make_optimiser("adam", model.parameters(), learning_rate=1e-3, weight_decay=1e-3)


def _graphs(device: torch.device, small: bool) -> dict[str, Any]:
    images = torch.rand(64, 3, 28, 28, device=device)
    target = torch.randint(0, 10, (64,), device=device)

    def step(model: nn.Module, optimiser: Optimizer) -> None:
        cross_entropy(model(images), target).backward()
        optimiser.step()
        for parameter in model.parameters():
            parameter.grad = None

    eager: Callable[[], None] = partial(step, *_made(device))
    figures: dict[str, Any] = {"eager_us": round(1e6 * seconds_of(eager, device, 5 if small else 300), 1)}
    if device.type != "cuda":
        return figures
    (one, first), (two, second) = _made(device), _made(device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # makes the optimiser's state and lists; counted as training steps
            step(one, first)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(one, first)
    for _ in range(20):
        graph.replay()
    for _ in range(23):
        step(two, second)
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    figures["worst"] = max(float((a - b).abs().max()) for a, b in pairs)
    figures["captured_us"] = round(1e6 * seconds_of(graph.replay, device, 300), 1)
    return figures
