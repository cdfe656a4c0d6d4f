"""Epochs of several trainings whose steps are one (`training.stacked`)."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from debias.data.gathered import Gathered, side_by_side
from debias.training.captured import Captured
from debias.training.loop import Loop
from debias.training.repeatable import noting_what_is_not
from debias.training.stacked import Stacked
from debias.training.steps import add_to, captured_step


class Joint:
    """The loops of several seeds and their jobs, stacked."""

    def __init__(self, loops: Sequence[Loop], stacked: Stacked) -> None:
        self._loops = list(loops)
        self._batches = [loop.job.batches for loop in loops]
        self.stacked = stacked
        self._totals: dict[str, Tensor] = {}
        self._generators: list[torch.Generator] = []
        self._factors: list[float] = []
        self._gathered = Gathered(self._batches) if all(own.in_memory for own in self._batches) else None
        self._captured: Captured | None = None

    def train(self) -> tuple[list[dict[str, float]], float]:
        """The next epoch of all; means of losses and logs of each, read from the device once, and the seconds."""
        started = time.monotonic()
        self._generators = [loop.begin() for loop in self._loops]
        for total in self._totals.values():
            total.zero_()
        if self._gathered is None:
            each = [own.epoch(draws) for own, draws in zip(self._batches, self._generators, strict=True)]
            for batches in zip(*each, strict=True):
                self._step(side_by_side(batches))
        else:
            orders = [own.order(draws) for own, draws in zip(self._batches, self._generators, strict=True)]
            order, captured = torch.stack(orders), self._recorded()
            if captured is not None:
                captured.run(order)
            else:
                for index in order.split(self._batches[0].batch_size, dim=1):
                    self._step_at(index)
        totals = torch.stack([total.float() for total in self._totals.values()], dim=1) / len(self._batches[0])
        means = [dict(zip(self._totals, row, strict=True)) for row in totals.tolist()]
        return means, time.monotonic() - started

    def _step_at(self, index: Tensor) -> None:
        assert self._gathered is not None
        self._step(self._gathered.columns(index, self._generators))

    def _step(self, columns: Sequence[Tensor]) -> None:
        first = self._loops[0]
        if first.nondeterministic is None:
            with noting_what_is_not(first.ctx.device) as found:
                for loop in self._loops:
                    loop.nondeterministic = found
                self._step(columns)
            return
        add_to(self._totals, self.stacked.step(columns))

    def _recorded(self) -> Captured | None:
        """The step as a CUDA graph, where it can be one; recorded again after learning rates have changed."""
        if self._captured is None:
            jobs = [loop.job for loop in self._loops]
            self._captured = captured_step(self._step_at, jobs, self._generators, self._loops[0].ctx)
            for loop in self._loops:
                loop.speed["graph"] = self._captured is not None
        factors = [loop.factor for loop in self._loops]
        if self._captured is not None and factors != self._factors:
            self._captured.forget()
        self._factors = factors
        return self._captured
