"""What is measured of a stage: its recipe, its data, a run of it, and what it gives."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.throughput import CASES, Case, recipe_with, run_stage, settings_for, synthetic_task
from debias.data.split import Task
from debias.stages.recipes import RECIPES, STAGES
from debias.training.artifacts import TrainedBranches, TrainedModel, to_plain
from debias.training.walk import Outcome

# What the card is wanted for most comes first; the other stages that train follow.
FIRST = ("branches", "distill", "lff", "lntl", "end", "fisher", "pretrain", "prune", "finetune")


def order() -> list[str]:
    """Every stage that trains and is in a recipe."""
    in_recipes = {stage for recipe in RECIPES.values() for stage in recipe.stages}
    trained = [name for name, stage in STAGES.items() if "epochs" in stage.settings and name in in_recipes]
    return sorted(trained, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def case_of(stage: str) -> Case:
    """The data set whose defaults a stage takes."""
    return CASES.get(stage, Case("jitter_mnist" if stage == "lntl" else "colored_mnist"))


def settings_of(stage: str, epochs: int, changes: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run up to a stage: `changes` are the stage's own, `run` those of the whole run."""
    settings = settings_for(case_of(stage), recipe_with(stage), stage, None, epochs, changes)
    return settings | {name: value for name, value in run.items() if name in settings}


@functools.lru_cache(maxsize=2)
def images(count: int, grey: bool) -> Task:
    """Synthetic images, made once for stages with batches of one size."""
    return synthetic_task(count, 64, grey)


def trained(
    stage: str, steps: int, epochs: int, device: torch.device, changes: Mapping[str, Any], run: Mapping[str, Any]
) -> tuple[Outcome, list[float], int]:
    """Train a stage for some epochs of so many full batches: what it gave, the seconds of each epoch, and the batch."""
    settings = settings_of(stage, epochs, changes, run)
    batch = int(settings[stage]["batch_size"])
    times: list[float] = []
    task = images(steps * batch, case_of(stage).grey)
    return run_stage(recipe_with(stage), stage, settings, task, device, times.append), times, batch


def one_epoch(
    stage: str, steps: int, device: torch.device, run: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> Outcome:
    """A run of a stage for one epoch."""
    return trained(stage, steps, 1, device, changes or {}, run)[0]


def tensors_of(outcome: Outcome, stage: str) -> dict[str, Tensor]:
    """What a stage gave, by name: the last weights of its networks, or all there is."""
    found: dict[str, Tensor] = {}
    for name in STAGES[stage].gives:
        artifact = outcome.artifacts[name]
        if isinstance(artifact, TrainedModel | TrainedBranches):
            found |= dict(_flat(name, artifact.states["last"]))
        else:
            found |= dict(_flat(name, to_plain(artifact)))
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}/{key}", inner)


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of a number in two results.

    Raises
    ------
    ValueError
        They do not hold the same tensors, or none.
    """
    if not one or one.keys() != other.keys():
        raise ValueError(f"two results with other tensors: {sorted(one)} and {sorted(other)}")
    pairs = [(one[name].double().cpu(), other[name].double().cpu()) for name in one]
    # A NaN is the largest, where it stands in one alone; torch's maximum keeps it.
    return float(torch.stack([(a - b).abs().max() for a, b in pairs if a.numel()]).max())
