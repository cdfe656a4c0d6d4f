"""The operations of which torch's functions are made, below gradients and types: all their tensors on one device."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.pretended.kernels import FREE, READS, STRICT, WAITS, fused, kernels
from tests.pretended.marks import CPU, names_gpu, on_gpu, only_shapes, pinned, put, tensors_in
from tests.pretended.seen import Seen

_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


class Operations(TorchDispatchMode):
    """Refuses what a GPU would, notes what the host waits for, counts kernels, and hands all on to a capture."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = tensors_in((args, kwargs))
        marks = [on_gpu(tensor) for tensor in tensors]
        on = marks[0] if name == "copy_" else any(marks) or self._seen.thread.pending
        if any(marks):
            self._check(name, func, args, kwargs, tensors, marks)
        if kwargs.get("device") is not None and names_gpu(kwargs["device"]):
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        capture = self._seen.thread.capture if on else None
        if capture is not None:
            self._check_draws(name, capture, args, kwargs)
            capture.look_at(tensors)
        result = func(*args, **kwargs)
        if on and name not in READS:
            put(result)
            if not (name in FREE or func.is_view or only_shapes(tensors_in(result))):
                self._seen.launch(kernels(name, args))
        if capture is not None:
            capture.write_down(func, args, kwargs, result)
        return result

    def _check(self, name: str, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], marks: list[bool]) -> None:
        """Look at an operation with a tensor of the GPU."""
        if fused(name):
            self._check_strides(name, args)
        if name in WAITS or (name == "repeat_interleave" and func._overloadname == "Tensor"):
            self._seen.note("wait", name)
        if name == "copy_":
            self._check_copy(tensors[1], marks, kwargs.get("non_blocking", len(args) > 2 and args[2]))
            return
        if name in _INDEXED:
            chosen = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in chosen):
                self._seen.note("wait", f"{name} by a mask")
            if on_gpu(args[0]) and not all(map(on_gpu, chosen)):
                self._seen.note("copy in", f"{name} by positions on the host")
                return
        host = [tensor for tensor, mark in zip(tensors, marks, strict=True) if not mark]
        # Fused steps take the rate from where they are given it.
        numbers = host if not fused(name) else [tensor for tensor in host if tensor is not kwargs.get("lr")]
        if any(tensor.dim() > 0 for tensor in host):
            self._seen.refuse(f"{name}: tensors of the CPU and of the GPU")
        elif numbers and (name in STRICT or fused(name)):
            self._seen.refuse(f"{name}: a number on the CPU among tensors of the GPU")
        elif host:
            self._seen.note("scalar", f"{name}: a number on the CPU")

    def _check_copy(self, source: Tensor, marks: list[bool], non_blocking: bool) -> None:
        into, of = marks
        if into and not of and not (non_blocking and pinned(source)):
            self._seen.note("copy in", "copy_ of memory that is not page-locked")
        if of and not into:
            self._seen.note("wait", "copy_ to the host")

    def _check_strides(self, name: str, args: Any) -> None:
        """Weights, gradients and moments lie alike: CUDA's fused steps insist, those of the CPU do not.

        (PyTorch, ATen/native/ForeachUtils.h, check_fast_path_restrictions.)
        """
        for alike in zip(args[0], *(part for part in args[1:4] if part), strict=True):
            strides = {tuple(s for s, n in zip(t.stride(), t.shape, strict=True) if n != 1) for t in alike}
            if len(strides) > 1:
                self._seen.refuse(f"{name}: weights, gradients and moments lie differently ({sorted(strides)})")

    def _check_draws(self, name: str, capture: Any, args: Any, kwargs: Any) -> None:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch._C.Generator) and not capture.knows(leaf):
                self._seen.refuse(f"{name}: a generator that is not registered with the graph that is captured")
