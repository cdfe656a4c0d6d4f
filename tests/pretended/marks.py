"""Which tensors pretend to be on the GPU. Their storages are marked, so that views are where their base is."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")


class WrongDevice(RuntimeError):
    """What a CUDA GPU would refuse."""


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of a nested value, in order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor pretends to be on the GPU."""
    return _has(tensor, "_on_gpu")


def pinned(tensor: Tensor) -> bool:
    """Whether a tensor pretends to be in page-locked memory, from which copies to the GPU do not wait."""
    return _has(tensor, "_pinned")


def put(value: Any, on: bool = True) -> Any:
    """Move all tensors of a nested value to the GPU, or from it, with all that share their storage; the value."""
    _mark(value, "_on_gpu", on)
    return value


def pin(value: Any) -> Any:
    """Pretend that all tensors of a nested value are in page-locked memory; the value."""
    _mark(value, "_pinned", True)
    return value


def only_shapes(tensors: list[Tensor]) -> bool:
    """Whether an operation was done to learn what its results would look like."""
    return bool(tensors) and all(tensor.is_meta for tensor in tensors)


def names_gpu(value: Any) -> bool:
    """Whether an argument `device` means the GPU."""
    return value.type == "cuda" if isinstance(value, torch.device) else _kind(value) == "cuda"


def names_device(value: Any) -> bool:
    """Whether an argument is a device at all."""
    return isinstance(value, torch.device) or _kind(value) in ("cuda", "cpu")


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Compute without pretending: no mode sees it, and no gradient is recorded."""
    with (
        torch._C.DisableTorchFunction(),
        _disable_current_modes(),
        torch._C._AutoDispatchBelowAutograd(),
        torch.no_grad(),
    ):
        yield


def _kind(value: Any) -> str:
    return value.split(":")[0] if isinstance(value, str) else ""


def _storage(tensor: Tensor) -> Any:
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None  # of a tensor without memory, such as one of shapes alone


def _has(tensor: Tensor, mark: str) -> bool:
    return bool(getattr(_storage(tensor), mark, False))


def _mark(value: Any, mark: str, on: bool) -> None:
    for tensor in tensors_in(value):
        storage = _storage(tensor)
        if storage is not None:
            setattr(storage, mark, on)
