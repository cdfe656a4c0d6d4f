"""Pretended CUDA graphs: a capture writes down the operations of a step, a replay does them on the same memory.

As on a GPU, a capture changes nothing: what was there before it is put back at its end, and what it made holds no
numbers until the first replay. What a capture cannot do raises WrongDevice while it is captured; reading memory that
has been given back raises it at the replay.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map

from tests.pretended.marks import on_gpu, only_shapes, pinned, plainly, tensors_in
from tests.pretended.seen import Seen

# Replaces the memory of a tensor, of which a graph would know nothing.
_MOVES = ("set_",)
# Makes room, or not even that: `_efficientzerotensor` is torch's zero without memory.
_EMPTY = ("empty", "new_empty", "_efficientzerotensor")


@dataclass(frozen=True, eq=False)
class _Number:
    """A tensor of one number on the CPU, which a graph keeps as it was when it was captured."""

    value: Tensor
    source: StorageWeakRef
    offset: int


@dataclass(frozen=True, eq=False)
class _Place:
    """A tensor as a kernel sees it: an address and how its numbers lie there."""

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class Capture:
    """The operations of a captured step."""

    def __init__(self, seen: Seen, generators: list[torch.Generator]) -> None:
        self.calls: list[tuple[Any, Any, Any, list[_Place]]] = []
        self.steps = 0  # of training
        self._seen = seen
        self._generators = [torch.default_generator, *generators]
        # Memory of the capture itself stays; that from outside may be given back, which is the program's mistake.
        self._inside: dict[int, torch.UntypedStorage] = {}
        self._outside: dict[int, StorageWeakRef] = {}
        self._before: dict[int, Tensor] = {}
        with plainly():
            self._drawn = [generator.get_state() for generator in self._generators]

    def knows(self, generator: torch.Generator) -> bool:
        """Whether a generator's draws go on from replay to replay."""
        return any(generator._cdata == known._cdata for known in self._generators)  # type: ignore[attr-defined]

    def look_at(self, tensors: list[Tensor]) -> None:
        """Remember the memory that an operation is about to read or to change."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if self._has(storage._cdata) or not (_has_memory(tensor) and (on_gpu(tensor) or pinned(tensor))):
                continue
            self._outside[storage._cdata] = StorageWeakRef(storage)
            if on_gpu(tensor):
                with plainly():
                    self._before[storage._cdata] = _bytes(storage).clone()
                    if not tensor.is_floating_point():
                        # Nothing is computed in a capture: positions need not be any yet.
                        _bytes(storage).zero_()

    def write_down(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Take an operation that has been done into the graph."""
        name = func.overloadpacket.__name__
        if name in _MOVES:
            self._seen.refuse(f"{name}: other memory for a tensor in a captured step")
        made = tensors_in(result)
        for tensor in filter(_has_memory, made):
            storage = tensor.untyped_storage()
            if not self._has(storage._cdata):
                self._inside[storage._cdata] = storage
        # Views and memory without numbers are made once.
        if not (func.is_view or name.startswith(_EMPTY) or only_shapes(made)):
            args, kwargs = tree_map(_placed, (args, kwargs))
            self.calls.append((func, args, kwargs, [_placed(tensor) for tensor in made]))

    def end(self) -> None:
        """Undo what has been done."""
        with plainly():
            for key, before in self._before.items():
                storage = _alive(self._outside[key])
                if storage is None:
                    continue
                if storage.nbytes() != len(before):
                    self._seen.refuse("a tensor from outside grows in a captured step")
                _bytes(storage).copy_(before)
            for storage in self._inside.values():
                _bytes(storage).fill_(255)  # no number
            for generator, state in zip(self._generators, self._drawn, strict=True):
                generator.set_state(state)
        self._before = {}

    def replay(self) -> None:
        """Do all operations again."""
        storages: dict[int, Any] = {key: _alive(reference) for key, reference in self._outside.items()} | self._inside
        if any(storage is None for storage in storages.values()):
            self._seen.refuse("a graph reads memory that has been given back since it was captured")

        def tensor_at(place: Any) -> Any:
            if isinstance(place, _Number):
                self._check_number(place)
                return place.value
            if not isinstance(place, _Place):
                return place
            empty = torch.empty(0, dtype=place.dtype)
            return empty.set_(storages[place.storage], place.offset, place.size, place.stride)

        with plainly(), torch.autocast("cpu", enabled=False):
            for func, args, kwargs, places in self.calls:
                args, kwargs = tree_map(tensor_at, (args, kwargs))
                for found, place in zip(tensors_in(func(*args, **kwargs)), places, strict=True):
                    if tuple(found.shape) != place.size:
                        self._seen.refuse(f"{func}: another shape than when it was captured")
                    if found.untyped_storage()._cdata != place.storage:
                        tensor_at(place).copy_(found)

    def _check_number(self, number: _Number) -> None:
        source = _alive(number.source)
        if source is not None:
            now = torch.empty(0, dtype=number.value.dtype).set_(source, number.offset, (), ())
            if not torch.equal(now, number.value):
                self._seen.refuse("a number on the CPU has changed since a graph was captured, which keeps the old one")

    def _has(self, key: int) -> bool:
        return key in self._inside or key in self._outside


class Graph:
    """Instead of `torch.cuda.CUDAGraph`."""

    seen: ClassVar[Seen]

    def __init__(self, keep_graph: bool = False) -> None:
        self._generators: list[torch.Generator] = []
        self._capture: Capture | None = None
        self._ready = False

    def register_generator_state(self, generator: torch.Generator) -> None:
        if not getattr(generator, "on_gpu", False):
            self.seen.refuse("a generator of the CPU for a graph")
        self._generators.append(generator)

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global", **others: Any) -> None:
        thread = self.seen.thread
        if thread.capture is not None:
            self.seen.refuse("a capture inside a capture")
        if thread.stream is None:
            self.seen.refuse("a capture on the default stream")
        thread.capture = self._capture = Capture(self.seen, self._generators)

    def capture_end(self) -> None:
        capture, self.seen.thread.capture = self.seen.thread.capture, None
        if capture is None or capture is not self._capture:
            self.seen.refuse("the end of a capture that has not begun")
        capture.end()
        self._ready = True
        self.seen.captures[self.seen.stage] += 1

    def replay(self) -> None:
        if self.seen.thread.capture is not None:
            self.seen.refuse("a replay inside a capture")
        if self._capture is None or not self._ready:
            self.seen.refuse("a replay of a graph that was not captured")
            return
        self._capture.replay()
        self.seen.launch()
        self.seen.replays[self.seen.stage] += 1
        self.seen.steps[self.seen.stage, self.seen.phase] += self._capture.steps

    def reset(self) -> None:
        self._capture, self._ready = None, False

    def discard(self) -> None:
        """Give a capture up that has failed."""
        capture, self.seen.thread.capture = self.seen.thread.capture, None
        if capture is not None:
            with contextlib.suppress(RuntimeError):
                capture.end()
        self.reset()

    def instantiate(self) -> None:
        pass

    def pool(self) -> tuple[int, int]:
        return (0, 1)


class Stream:
    """Instead of `torch.cuda.Stream`: everything is done immediately and in order."""

    seen: ClassVar[Seen]

    def __init__(self, device: Any = None, priority: int = 0, **others: Any) -> None:
        self._outer: list[Stream | None] = []

    def __enter__(self) -> "Stream":
        self._outer.append(self.seen.thread.stream)
        self.seen.thread.stream = self
        return self

    def __exit__(self, *error: Any) -> None:
        self.seen.thread.stream = self._outer.pop()

    def wait_stream(self, other: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record_event(self, event: Any = None) -> Any:
        return event or torch.cuda.Event()

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.seen.note("wait", "synchronize")


@contextlib.contextmanager
def capturing(
    cuda_graph: Graph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = "global", **others: Any
) -> Iterator[None]:
    """Instead of `torch.cuda.graph`."""
    with stream or torch.cuda.Stream():
        cuda_graph.capture_begin(pool, capture_error_mode)
        try:
            yield
        except BaseException:
            cuda_graph.discard()
            raise
        cuda_graph.capture_end()


def _placed(value: Any) -> Any:
    if not isinstance(value, Tensor) or not _has_memory(value):
        return value
    if not (on_gpu(value) or pinned(value)):
        with plainly():
            return _Number(value.clone(), StorageWeakRef(value.untyped_storage()), int(value.storage_offset()))
    size, stride = tuple(value.shape), tuple(value.stride())
    return _Place(value.untyped_storage()._cdata, value.dtype, size, stride, int(value.storage_offset()))


def _has_memory(tensor: Tensor) -> bool:
    return not (tensor.is_meta or tensor._is_zerotensor())


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _alive(reference: StorageWeakRef) -> Any:
    return None if reference.expired() else torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
