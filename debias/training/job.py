"""What a stage asks of the training loop (`Job`), and what it gets back (`Fitted`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from debias.data.batches import Batch, Batches
from debias.training.artifacts import Report, Selected, State
from debias.training.evaluation import ReadOuts

Logs = Mapping[str, Tensor]
Loss = Callable[[Batch], Tensor | tuple[Tensor, Logs]]


@dataclass
class Update:
    """One optimiser step on each batch; a method with two adversaries has two updates.

    The loss may come with scalars by name, such as `train/accuracy`: their means over an epoch stand in its row of the
    history. They stay on the device until then.
    """

    loss: Loss
    optimiser: Optimizer


@dataclass
class Job:
    """What a stage asks of the loop.

    Parameters
    ----------
    model
        Every module with weights or buffers that training changes, and so every one that is checkpointed.
    updates
        Done in order on each batch.
    batches
        Training batches; they carry no bias labels unless the method declared that it needs them.
    epochs
        Passes over `batches`.
    read_outs
        Logits by name, for evaluation.
    main
        The read-out by which epochs are selected and that the progress bar shows.
    rule
        The figure of `main` that the `oracle` selection maximises.
    schedule
        Factor on the learning rates in an epoch counted from 0.
    tensors
        Further tensors that training changes in place (running averages of a method), checkpointed with the model.
    frozen
        Modules inside `model` that stay in evaluation mode: their normalisation statistics do not move.
    after_epoch
        Called after each epoch's training and before its evaluation; may change `tensors`.
    stop
        Asked after each epoch, with the number of epochs done, whether to give up here.
    capturable
        False where a loss reads values on the host, or Python's numbers that change from step to step: such steps are
        not recorded as CUDA graphs.
    """

    model: nn.Module
    updates: Sequence[Update]
    batches: Batches
    epochs: int
    read_outs: ReadOuts
    main: str
    rule: str = "unbiased"
    schedule: Callable[[int], float] | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: Iterable[nn.Module] = ()
    after_epoch: Callable[[], None] | None = None
    stop: Callable[[int], bool] | None = None
    capturable: bool = True


@dataclass
class Fitted:
    """What the loop gives back.

    `history` has a row of plain floats per epoch. Selections are `last`; `mean`, the average of the weights after each
    epoch of the last quarter; `valid` (or what `Task.selection` says), best on the validation images; `oracle`, best on
    the test set. Extra test sets are measured as read-outs <read-out>@<test> and select nothing. `replicas` is how many
    seeds were trained in one go, `nondeterministic` names the operations that may give other numbers the next time.
    """

    history: list[dict[str, float]]
    selected: Mapping[str, Selected]
    speed: dict[str, bool] = field(default_factory=dict)
    stopped: bool = False
    replicas: int = 1
    nondeterministic: Sequence[str] = ()

    def report(self) -> Report:
        """The part of the result that is about accuracy."""
        return Report(
            history=self.history,
            summary={
                f"{read_out}/{figure}/{selection}": value
                for selection, chosen in self.selected.items()
                for read_out, figures in chosen.figures.items()
                for figure, value in figures.items()
            },
            matrices={selection: chosen.matrices for selection, chosen in self.selected.items()},
            predictions={selection: chosen.predictions for selection, chosen in self.selected.items()},
            epochs={selection: chosen.epoch for selection, chosen in self.selected.items()},
            speed=self.speed,
            replicas=self.replicas,
            nondeterministic=list(self.nondeterministic),
        )

    def states(self) -> dict[str, State]:
        """State dict of every selection."""
        return {selection: chosen.state for selection, chosen in self.selected.items()}
