"""A training step as one CUDA graph: its kernels are launched together, as one by one they take longer than they run.

A step of a small network is 50 to 350 kernels of about 2 us, which Python cannot launch as fast as a GPU does them. The
first steps of a loop are done one kernel at a time, in which optimisers make their state and libraries their handles;
the next one is recorded, and from then on repeated on whatever the recorded tensors hold by then. Numbers are the same.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from debias.errors import UserError
from debias.settings import Setting

GRAPH = Setting(
    "auto",
    "record training steps as CUDA graphs; auto: on a CUDA GPU, where the images are in its memory",
    choices=("auto", "on", "off"),
    role="machine",
)
# Steps before the one that is recorded: in its first step an optimiser makes its state, in the second its lists of it.
WARM_UP = 3
# Steps in a graph, where an epoch has twice as many: one launch and one copy of positions serve all of them.
MANY = 16


def wants_capture(settings: Mapping[str, Any], device: torch.device) -> bool:
    """Whether steps are to be recorded, as far as settings and device go."""
    # A compiled network may compile again while a step is recorded.
    return device.type == "cuda" and settings.get("graph", "auto") != "off" and settings.get("compile") != "on"


def check_capture(settings: Mapping[str, Any], device: torch.device) -> None:
    """Refuse, with a UserError, to record where nothing can be recorded."""
    if settings.get("graph") != "on":
        return
    if device.type != "cuda":
        raise UserError(f"graph=on records CUDA graphs, and device={device.type} is not a CUDA GPU; leave graph=auto")
    if settings.get("compile") == "on":
        raise UserError("graph=on and compile=on do not go together; leave graph=auto")


class Captured:
    """A function of positions that is recorded after a few calls, and repeated from then on.

    Parameters
    ----------
    step
        Takes the positions of a batch, int64 [..., batch] on the device. In every call it has to read and change the
        very same tensors, read no value on the host, and draw from nothing but torch's global generator and
        `generators`. Numbers of Python that it reads are those of the call that is recorded: `forget` when they change.
    batch
        Images of a full batch; a shorter one, at the end of an epoch, is done kernel by kernel.
    generators
        On the device; they draw in repeated steps what they would draw otherwise, also after they were seeded again.
    """

    def __init__(
        self, step: Callable[[Tensor], None], batch: int, device: torch.device, generators: Sequence[torch.Generator]
    ) -> None:
        self._step = step
        self._batch = batch
        self._generators = generators
        self._stream = torch.cuda.Stream(device)
        self._recorded: dict[int, _Recorded] = {}
        self._done = 0

    def run(self, order: Tensor) -> None:
        """Steps on an epoch's positions, int64 [..., n], batch by batch."""
        steps, place = order.shape[-1] // self._batch, 0
        while place < steps:
            # Only where it is used more than once: recording takes about as long as doing it kernel by kernel.
            many = MANY if steps >= 2 * MANY and steps - place >= MANY else 1
            if self._done < WARM_UP:
                many = 1
                self._for_real(order[..., place * self._batch : (place + 1) * self._batch])
            else:
                chosen = order[..., place * self._batch : (place + many) * self._batch]
                self._repeat(chosen.unflatten(-1, (many, self._batch)).movedim(-2, 0))
            place += many
        if order.shape[-1] > place * self._batch:
            self._step(order[..., place * self._batch :])

    def forget(self) -> None:
        """Record again at the next step: a number that it reads on the host has changed."""
        self._recorded.clear()

    @property
    def recorded(self) -> bool:
        """Whether a step has been recorded."""
        return bool(self._recorded)

    def _repeat(self, index: Tensor) -> None:
        many = len(index)
        if many not in self._recorded:
            self._recorded[many] = self._record(torch.empty_like(index, memory_format=torch.contiguous_format))
        found = self._recorded[many]
        found.index.copy_(index)
        found.graph.replay()

    def _for_real(self, index: Tensor) -> None:
        # On the stream that is recorded later: autograd keeps to the stream on which it saw a weight first.
        now = torch.cuda.current_stream(index.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            self._step(index)
        now.wait_stream(self._stream)
        self._done += 1

    def _record(self, index: Tensor) -> "_Recorded":
        """Record steps on the batches in `index`, int64 [many, ..., batch]; nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # A graph of an earlier stage that is collected meanwhile would spoil this one; torch does not look for it.
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()
        try:
            # Other threads may use the device meanwhile (images that are read ahead, observers).
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                for batch in index:
                    self._step(batch)
        except RuntimeError as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"a training step could not be recorded as a CUDA graph ({why[:200]}); the same command with graph=off "
                "resumes from the last checkpoint"
            ) from error
        finally:
            if collecting:
                gc.enable()
        return _Recorded(graph, index)


@dataclass
class _Recorded:
    graph: torch.cuda.CUDAGraph
    index: Tensor
