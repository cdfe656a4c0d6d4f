"""Whether a checkpoint is one of the training that is to go on from it: files may be damaged, or of something else."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from debias.training.artifacts import Checkpoint
from debias.training.diverged import is_finite


def check_checkpoint(
    state: Checkpoint,
    model: Mapping[str, Tensor],
    optimisers: Sequence[Optimizer],
    tensors: Mapping[str, Tensor],
    epochs: int,
) -> None:
    """Refuse what is not a checkpoint of a training, before anything of it is taken over.

    Parameters
    ----------
    state
        What was read.
    model, optimisers, tensors, epochs
        Of the training: the model's state dict, and how many epochs it has in all.

    Raises
    ------
    ValueError
        Epochs, tensors or optimisers that are others, or weights that are not finite. Missing fields raise KeyError,
        other types TypeError or AttributeError.
    """
    own, rows = state.model, state.history
    if not _same(own, model):
        raise ValueError("other weights")
    if not all(is_finite(value) for value in own.values()):
        raise ValueError("weights that are not finite")
    if len(rows) > epochs or [row["epoch"] for row in rows] != [number + 1.0 for number in range(len(rows))]:
        raise ValueError("other epochs")
    if rows and "last" not in state.selected:
        raise ValueError("no selected epoch")
    chosen = [selected.state for selected in state.selected.values()]
    if not all(_same(found, model) for found in [*chosen, *([state.mean] if state.mean else [])]):
        raise ValueError("other weights of a selected epoch")
    if len(state.optimisers) != len(optimisers) or not _same(state.tensors, tensors):
        raise ValueError("other optimisers or tensors")
    for optimiser, saved in zip(optimisers, state.optimisers, strict=True):
        _check_optimiser(optimiser, saved)


def _check_optimiser(optimiser: Optimizer, saved: Mapping[str, Any]) -> None:
    groups, own = saved["param_groups"], optimiser.param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in own]:
        raise ValueError("an optimiser of other weights")
    for group, other in zip(groups, own, strict=True):
        for name in group.keys() & other.keys() - {"params"}:
            if not _alike(group[name], other[name]):
                raise ValueError(f"an optimiser with another {name}")
    weights = [weight for group in own for weight in group["params"]]
    kept: set[frozenset[tuple[str, bool]]] = set()
    for place, state in saved["state"].items():
        kept.add(frozenset((name, isinstance(value, Tensor)) for name, value in state.items()))
        for value in state.values():
            tensor = isinstance(value, Tensor) and value.shape in (weights[place].shape, torch.Size([]))
            if not (tensor and is_finite(value)) and not isinstance(value, float | int | None):
                raise ValueError("an optimiser whose state is something else")
    if len(kept) > 1:
        raise ValueError("an optimiser that lacks a part of its state")


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of a setting are of one kind: a number may be a tensor, where steps are captured."""
    if isinstance(other, list | tuple):
        return isinstance(one, list | tuple) and len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(other, bool | None):
        return isinstance(one, bool | None)
    number = (isinstance(one, Tensor) and one.numel() == 1) or (
        isinstance(one, int | float) and not isinstance(one, bool)
    )
    return number if isinstance(other, int | float | Tensor) else type(one) is type(other)


def _same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(found[name].shape == value.shape for name, value in expected.items())
