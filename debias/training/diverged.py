"""Training that has diverged: it ends as a failed run that says so, whatever the method."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from debias.errors import UserError

# No weight of a network that works is larger; its products with others overflow.
LARGEST = 1e15


def check_losses(stage: str, rows: Iterable[Mapping[str, float]]) -> None:
    """Refuse epochs with a loss that is not finite; `rows` are those of a history, read from the device before.

    Raises
    ------
    UserError
    """
    for row in rows:
        for name, value in row.items():
            if name.startswith("loss") and not math.isfinite(value):
                raise _diverged(stage, f"the loss of epoch {int(row['epoch'])} is {value}")


def check_weights(stage: str, artifacts: Mapping[str, Any]) -> None:
    """Refuse networks among a stage's artifacts whose weights are not finite. A CPU-GPU sync point.

    Raises
    ------
    UserError
    """
    for name, artifact in artifacts.items():
        states = artifact.get("states") if isinstance(artifact, Mapping) else getattr(artifact, "states", None)
        last = states.get("last", {}) if isinstance(states, Mapping) else {}
        if broken := next((key for key, value in last.items() if not _is_sane(value)), None):
            raise _diverged(stage, f"{broken} of its {name} holds values that are not finite, or beyond {LARGEST:g}")


def is_finite(value: Tensor) -> bool:
    """Whether all values of a tensor are. A CPU-GPU sync point."""
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _is_sane(value: Tensor) -> bool:
    # NaN is not smaller either.
    return not value.is_floating_point() or value.numel() == 0 or bool(value.abs().max() < LARGEST)


def _diverged(stage: str, what: str) -> UserError:
    return UserError(f"{stage}: training has diverged: {what}; set a lower {stage}.learning_rate")
