"""A training step as one CUDA graph: its kernels are launched together, as one by one they take longer than they run.

A step of a small network is 50 to 350 kernels of about 2 us, which Python cannot launch as fast as a GPU does them. The
first steps of a loop are done one kernel at a time, in which optimisers make their state and libraries their handles;
the next one is recorded, and from then on repeated on whatever the recorded tensors hold by then. Numbers are the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from errors import UserError
from settings import Setting

GRAPH = Setting(
    "auto",
    "record training steps as CUDA graphs; auto: on a CUDA GPU, where the images are in its memory",
    choices=("auto", "on", "off"),
)
# Steps before the one that is recorded: in its first step an optimiser makes its state, in the second its lists of it.
WARM_UP = 3


def wants_capture(settings: Mapping[str, Any], device: torch.device) -> bool:
    """Whether steps are to be recorded, as far as settings and device go."""
    # A compiled network may compile again while a step is recorded.
    return device.type == "cuda" and settings.get("graph", "auto") != "off" and settings.get("compile") != "on"


def check_capture(settings: Mapping[str, Any], device: torch.device) -> None:
    """Refuse, with a UserError, to record where nothing can be recorded."""
    if settings.get("graph") != "on":
        return
    if device.type != "cuda":
        raise UserError(f"graph=on records CUDA graphs, and device={device.type} is no CUDA GPU; leave graph=auto")
    if settings.get("compile") == "on":
        raise UserError("graph=on and compile=on do not go together; leave graph=auto")


class Captured:
    """A function of positions that is recorded after a few calls, and repeated from then on.

    Parameters
    ----------
    step
        Takes positions, int64 of `shape` on the device. In every call it has to read and change the very same tensors,
        read no value on the host, and draw from nothing but torch's global generator and `generators`. Numbers of
        Python that it reads are those of the call that is recorded: `forget` when they change.
    shape
        Of what is recorded; another call (an epoch's last, short batch) is done kernel by kernel.
    generators
        On the device; they draw in repeated steps what they would draw otherwise, also after they were seeded anew.
    """

    def __init__(
        self,
        step: Callable[[Tensor], None],
        shape: Sequence[int],
        device: torch.device,
        generators: Sequence[torch.Generator],
    ) -> None:
        self._step = step
        self._generators = generators
        self._index = torch.zeros(*shape, dtype=torch.int64, device=device)
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0

    def __call__(self, index: Tensor) -> None:
        """One step on these positions."""
        if index.shape != self._index.shape:
            self._step(index)
            return
        if self._done < WARM_UP:
            self._for_real(index)
            return
        if self._graph is None:
            self._graph = self._record()
        self._index.copy_(index)
        self._graph.replay()

    def forget(self) -> None:
        """Record anew at the next call: a number that the step reads on the host has changed."""
        self._graph = None

    @property
    def recorded(self) -> bool:
        """Whether a step has been recorded."""
        return self._graph is not None

    def _for_real(self, index: Tensor) -> None:
        # On the stream that is recorded later: autograd keeps to the stream on which it saw a weight first.
        now = torch.cuda.current_stream(index.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            self._step(index)
        now.wait_stream(self._stream)
        self._done += 1

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record a step; nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # Other threads may use the device meanwhile (images that are read ahead, observers).
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._step(self._index)
        return graph
