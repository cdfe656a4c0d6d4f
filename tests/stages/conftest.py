"""A single stage on its own: what it is given besides its inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from debias.data.split import Task
from debias.stages.recipes import STAGES
from debias.training.stage import Context
from debias.training.store import Store


@pytest.fixture
def context(tiny: Callable[..., dict[str, Any]], task: Task, tmp_path: Path) -> Callable[..., Context]:
    """context("finetune", "finetune.epochs=1", task=..., say=...) is what that stage would be run with."""

    def make(stage: str, *words: str, task: Task = task, say: Callable[[str], None] = lambda line: None) -> Context:
        settings = tiny(*words)
        return Context(
            task=task,
            settings=settings,
            stage=stage,
            device=torch.device("cpu"),
            seed=settings["seed"],
            folder=Store(tmp_path / "alone").folder(stage, "alone"),
            log=lambda name, value, epoch: None,
            say=say,
            progress=False,
            bias_declared=stage in STAGES and STAGES[stage].needs_bias_labels,
        )

    return make
