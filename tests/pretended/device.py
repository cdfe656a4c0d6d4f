"""A pretended CUDA device on a machine without one: the program runs, checked for what a GPU would refuse.

Tensors stay on the CPU, so all numbers are real, and say of themselves that they are on `cuda:0` when they were made
there, moved there, or computed from such. What a GPU would refuse raises WrongDevice: tensors of two devices in one
operation, a generator of the wrong device, `.numpy()`. What would make the host wait is noted with file and line,
kernel launches are counted, and CUDA graphs are captured and replayed.

    with pretended() as seen:
        main.main(["with", "erm", "device=cuda"])
    print(seen.events, seen.launches)
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.optim import Optimizer

from tests.pretended.functions import Functions
from tests.pretended.graphs import Graph, Stream, capturing
from tests.pretended.marks import CPU, GPU, names_gpu, on_gpu, plainly
from tests.pretended.operations import Operations
from tests.pretended.seen import Seen
from tests.pretended.steps import watch

_MEMORY = 8 * 2**30


@contextlib.contextmanager
def pretended(strict: bool = True) -> Iterator[Seen]:
    """Pretend that there is a CUDA GPU, in all threads that are started inside; gives what is seen."""
    seen = Seen(strict)
    with contextlib.ExitStack() as undone:

        def patch(place: Any, name: str, value: Any) -> None:
            undone.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, value)

        run = threading.Thread.run

        def running(self: threading.Thread) -> None:
            with Operations(seen), Functions(seen):
                run(self)

        patch(threading.Thread, "run", running)
        patch(torch, "Generator", _generator_of(seen))
        patch(torch, "autocast", _autocast_of(torch.autocast))
        for name, value in _cuda(seen).items():
            if hasattr(torch.cuda, name):
                patch(torch.cuda, name, value)
        _patch_optimisers(seen, patch)
        _keep_algorithms(undone)
        watch(seen, patch)
        with Operations(seen), Functions(seen):
            yield seen


def _keep_algorithms(undone: contextlib.ExitStack) -> None:
    """Choose the algorithms afterwards that are chosen now: a program chooses others for a GPU."""
    chosen, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    undone.callback(torch.use_deterministic_algorithms, chosen, warn_only=warn_only)
    for place, name in (
        (torch.utils.deterministic, "fill_uninitialized_memory"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
        (torch.backends.cudnn, "allow_tf32"),
    ):
        undone.callback(setattr, place, name, getattr(place, name))
    undone.enter_context(mock.patch.dict(os.environ))


def _cuda(seen: Seen) -> dict[str, Any]:
    """What stands in `torch.cuda`."""

    def wait(name: str) -> Any:
        return lambda device=None: seen.note("wait", name)

    def seed(number: int) -> None:
        if seen.thread.capture is not None:
            seen.refuse("a seed in a captured step")

    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "pretended",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(
            name="pretended", total_memory=_MEMORY, multi_processor_count=100, major=9, minor=0
        ),
        "is_bf16_supported": lambda including_emulation=True: True,
        "mem_get_info": lambda device=None: (_MEMORY, _MEMORY),
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": wait("empty_cache"),
        "synchronize": wait("synchronize"),
        "manual_seed": seed,
        "manual_seed_all": seed,
        "set_sync_debug_mode": lambda mode: None,
        "Event": _event_of(seen),
        "Stream": type("Stream", (Stream,), {"seen": seen}),
        "stream": lambda stream: contextlib.nullcontext() if stream is None else stream,
        "current_stream": lambda device=None: seen.thread.stream or torch.cuda.default_stream(),
        "default_stream": lambda device=None: _Default(),
        "is_current_stream_capturing": lambda: seen.thread.capture is not None,
        "CUDAGraph": type("CUDAGraph", (Graph,), {"seen": seen}),
        "graph": capturing,
        "graph_pool_handle": lambda: (0, 1),
    }


class _Default(Stream):
    """The stream outside of all others, on which nothing can be captured."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def _event_of(seen: Seen) -> type:
    class Event:
        def __init__(self, **options: Any) -> None:
            self._at = 0.0

        def record(self, stream: Any = None) -> None:
            self._at = time.perf_counter()

        def wait(self, stream: Any = None) -> None:
            pass

        def query(self) -> bool:
            return True

        def synchronize(self) -> None:
            seen.note("wait", "synchronize")

        def elapsed_time(self, end: "Event") -> float:
            return 1000 * (end._at - self._at)

    return Event


def _generator_of(seen: Seen) -> type:
    class Generator(torch.Generator):
        """A generator of the CPU that remembers where it was asked for."""

        on_gpu: bool

        def __new__(cls, device: Any = "cpu") -> "Generator":
            made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
            made.on_gpu = names_gpu(device)
            return made

        def __init__(self, device: Any = "cpu") -> None:
            pass

        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return GPU if self.on_gpu else CPU

        def manual_seed(self, number: int) -> Any:
            if self.on_gpu and seen.thread.capture is not None:
                seen.refuse("a seed in a captured step")
            super().manual_seed(number)
            return self

        def get_state(self) -> Any:
            with plainly():
                return super().get_state()

        def set_state(self, state: Any) -> Any:
            if self.on_gpu and seen.thread.capture is not None:
                seen.refuse("a seed in a captured step")
            with plainly():
                super().set_state(state)
            return self

    return Generator


def _autocast_of(autocast: Any) -> type:
    class Autocast(autocast):  # type: ignore[misc]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return Autocast


def _patch_optimisers(seen: Seen, patch: Any) -> None:
    """What torch's optimisers ask of the device where no mode hears of it."""
    grouped = Optimizer._group_tensors_by_device_and_dtype

    def by_mark(lists: Any, with_indices: bool = False) -> Any:
        found = grouped(lists, with_indices)
        return {
            (GPU if any(on_gpu(t) for t in tensors[0] if t is not None) else device, dtype): (tensors, places)
            for (device, dtype), (tensors, places) in found.items()
        }

    def check(self: Optimizer) -> None:
        if seen.thread.capture is not None and not all(group.get("capturable") for group in self.param_groups):
            seen.refuse(f"{type(self).__name__}: a step that is not capturable in a captured step")

    patch(Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(by_mark))
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(Optimizer, name):
            patch(Optimizer, name, check)
