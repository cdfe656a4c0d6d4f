"""Where a run is: its stage, and whether it is inside a step."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from debias.data.batches import Batch, Batches
from debias.training.captured import Captured
from debias.training.walk import Walk
from tests.pretended.seen import Seen


def watch(seen: Seen, patch: Callable[[Any, str, Any], None]) -> None:
    """Have `seen` told of every stage, and of every step of training and evaluation.

    The phase of a step is `train` or `eval`, and `replay` where it is recorded as a graph or repeated from it; of the
    first, in which an optimiser makes its state and the order of batches is drawn, `first train` or `first eval`. A
    step of batches that are read one by one lasts from its batch, whose making is part of it, to the next.
    """
    epoch, advance, begin, run = Batches.epoch, Walk.advance, Captured.__init__, Captured.run

    @contextlib.contextmanager
    def phase(name: str, steps: int = 1) -> Iterator[None]:
        before, seen.phase = seen.phase, name
        seen.steps[seen.stage, name] += steps
        try:
            yield
        finally:
            seen.phase = before

    def batches(self: Batches, generator: Any = None) -> Iterator[Batch]:
        made = epoch(self, generator)
        for name in _phases("train" if self.shuffle else "eval"):
            with phase(name, 0):
                try:
                    batch = next(made)
                except StopIteration:
                    return
                seen.steps[seen.stage, name] += 1
                yield batch

    def watched(step: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        phases = _phases("train")

        def watched_step(index: Tensor) -> None:
            if (capture := seen.thread.capture) is not None:
                capture.steps += 1
                step(index)
            else:
                with phase(next(phases)):
                    step(index)

        return watched_step

    def begins(self: Captured, step: Callable[[Tensor], None], *args: Any) -> None:
        begin(self, watched(step), *args)

    def runs(self: Captured, order: Tensor) -> None:
        with phase("replay", 0):
            run(self, order)

    def staged(self: Walk, stage: Any) -> None:
        seen.stage = stage.name
        advance(self, stage)

    patch(Batches, "epoch", batches)
    patch(Captured, "__init__", begins)
    patch(Captured, "run", runs)
    patch(Walk, "advance", staged)


def _phases(kind: str) -> Iterator[str]:
    yield f"first {kind}"
    while True:
        yield kind
