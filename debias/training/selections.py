"""Which weights a training keeps: the last, the best by each rule, and the mean over the last quarter of the epochs."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from debias.metrics import GroupMatrix
from debias.training.artifacts import Selected, State
from debias.training.evaluation import Evaluation


class Selections:
    """What was selected so far, and `mean`, the mean of weights.

    Parameters
    ----------
    model
        Whose weights are kept.
    epochs
        How many it is trained.
    """

    def __init__(self, model: nn.Module, epochs: int) -> None:
        self._model, self._epochs = model, epochs
        self._found: dict[str, Selected] = {}
        self.mean: dict[str, Tensor] = {}
        # Their weights stay on the device until they are asked for: fetching them would be a wait for each.
        self._states: dict[str, dict[str, Tensor]] = {}

    def keep(self, selection: str, epoch: int, tested: Mapping[str, Evaluation]) -> None:
        """Select the weights of now, and what they gave on the test sets."""
        now = {name: value.detach() for name, value in self._model.state_dict().items()}
        if selection in self._states:
            torch._foreach_copy_(list(self._states[selection].values()), list(now.values()))
        else:
            self._states[selection] = {name: value.clone() for name, value in now.items()}
        self._found[selection] = Selected(
            epoch=epoch + 1,
            state={},
            figures={name: dict(one.figures) for name, one in tested.items()},
            matrices={name: _counts(one.matrix) for name, one in tested.items()},
            predictions={name: torch.from_numpy(one.matrix.predictions) for name, one in tested.items()},
        )

    def average(self, epoch: int) -> None:
        """Take the weights after an epoch of the last quarter into the running mean; counters are just copied."""
        number = epoch + 1 - (self._epochs - max(1, self._epochs // 4))
        if number < 1:
            return
        for name, value in self._model.state_dict().items():
            value = value.detach()
            if number == 1 or not value.is_floating_point():
                self.mean[name] = value.clone()
            else:
                self.mean[name] += (value - self.mean[name]) / number

    def restore(self, found: Mapping[str, Selected], mean: State, device: torch.device) -> None:
        """Go on from what `with_states` and `mean` were."""
        self._found = dict(found)
        for selection, chosen in found.items():
            self._states[selection] = {name: value.to(device) for name, value in chosen.state.items()}
        self.mean = {name: value.to(device) for name, value in mean.items()}

    def with_states(self) -> dict[str, Selected]:
        """What was selected, with its weights on the CPU."""
        return {
            selection: replace(chosen, state={name: value.cpu() for name, value in self._states[selection].items()})
            for selection, chosen in self._found.items()
        }


def _counts(matrix: GroupMatrix) -> Tensor:
    """int64 [2, T, B]: hits, counts; the form in which a matrix is stored."""
    return torch.stack([torch.from_numpy(matrix.hits), torch.from_numpy(matrix.counts)])
