"""Whether a checkpoint is one of the training that is to go on from it: files may be damaged, or of something else."""

from collections.abc import Mapping, Sequence

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
        sizes = [len(group["params"]) for group in optimiser.state_dict()["param_groups"]]
        if [len(group["params"]) for group in saved["param_groups"]] != sizes:
            raise ValueError("an optimiser of other weights")


def _same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(found[name].shape == value.shape for name, value in expected.items())
