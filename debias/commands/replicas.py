"""Several seeds in one command: trained simultaneously, then recorded as a run each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from debias.commands.console import say
from debias.commands.together import Load, train_runs
from debias.tracking.folders import read_runs
from debias.tracking.results.published import beside
from debias.tracking.results.summary import tables_of
from debias.tracking.results.tables import write
from debias.training.stage import Settings, Stage
from debias.training.store import Store


def seeds_of(settings: Settings) -> list[int]:
    """The seeds that are trained simultaneously, each of which has a run of its own."""
    return [settings["seed"] + number for number in range(settings["replicas"])]


def train_at_once(
    stages: Sequence[Stage], settings: Mapping[str, Any], device: torch.device, store: Store, load: Load
) -> None:
    """Have all stages of all seeds in the store; a seed that fails does so again in its own run, which says why."""
    every = [{**settings, "seed": seed, "replicas": 1} for seed in seeds_of(settings)]
    say(f"{len(every)} seeds together: {every[0]['seed']} to {every[-1]['seed']}")
    train_runs(stages, every, [f"seed {own['seed']}" for own in every], device, store, load, say)


def show_seeds(store: Path, runs: Sequence[str]) -> None:
    """Print the mean ± std of runs, given by the names of their folders."""
    records = [record for record in read_runs(store) if record.folder.name in runs and record.summary]
    if records:
        print(write(tables_of(records, "unbiased", beside), "terminal"), end="")
