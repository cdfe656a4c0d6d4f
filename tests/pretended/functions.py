"""The functions of torch as a program calls them: arguments `device`, attributes, copies between devices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.pretended.marks import CPU, GPU, names_device, names_gpu, on_gpu, pin, pinned, put, tensors_in
from tests.pretended.seen import Seen

# Of a tensor on the GPU torch refuses these; `numpy` reads memory in place.
_HOST_ONLY = ("numpy", "__array__", "__dlpack__")
# Reads numbers by way of an operation, which is seen there.
_READS = ("__float__", "__int__", "__bool__", "__index__", "item", "__contains__")
_LIKE_FIRST = ("new_tensor", "new_zeros", "new_ones", "new_full", "new_empty")
_FROM_HOST = ("tensor", "as_tensor", "new_tensor", "asarray")
_UNTOUCHED = ("data_ptr", "untyped_storage", "requires_grad_", "__reduce_ex__")


class Functions(TorchFunctionMode):
    """Does on the CPU what is asked of the GPU, and marks what comes of it."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name == "__get__":
            return _attribute(func, args, kwargs)
        if func is torch.device or name in _UNTOUCHED:
            return func(*args, **kwargs)
        if first is not None:
            if on_gpu(first) and name in _HOST_ONLY:
                self._seen.refuse(f"{name} of a tensor of the GPU")
            if on_gpu(first) and name in _READS:
                return func(*args, **kwargs)
            if on_gpu(first) and name == "tolist":
                self._seen.note("wait", name)
                return func(*args, **kwargs)
            if name in ("cpu", "cuda"):
                return self._moved(first, first, name == "cuda", free=False)
            if name == "to":
                return self._to(func, first, list(args[1:]), kwargs)
            if name == "__deepcopy__":
                return put(func(*args, **kwargs), on_gpu(first))
            if name == "pin_memory":
                return pin(first.clone())
            if name == "is_pinned":
                return pinned(first)
            if name == "record_stream":
                return None
        return self._call(func, name, args, kwargs)

    def _call(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """Everything else; `on` is where its result is said to be, None where that follows from its tensors."""
        device, locked = kwargs.get("device"), kwargs.pop("pin_memory", False)
        given = tensors_in((args, kwargs))
        marked = any(map(on_gpu, given))
        on: bool | None
        if device is not None and names_device(device):
            kwargs["device"] = CPU
            # An operation of a graph that was written down says the tensors' true place.
            written_down = isinstance(func, torch._ops.OpOverload)
            on = (None if given else True) if written_down else names_gpu(device)
        elif name in _LIKE_FIRST:
            on = on_gpu(args[0])
        else:
            on = None if given else False
        wanted = marked if on is None else on
        if (generator := kwargs.get("generator")) is not None and getattr(generator, "on_gpu", False) != wanted:
            self._seen.refuse(f"{name}: a generator of the {'CPU' if wanted else 'GPU'} for a tensor of the other")
        result = self._under(wanted, lambda: func(*args, **kwargs))
        if on and name in _FROM_HOST and not any(map(on_gpu, tensors_in(args[1:] if name == "new_tensor" else args))):
            self._seen.note("copy in", f"{name} of numbers of the host")
            result = self._under(True, result.clone)  # it may be a tensor of the CPU that was given
        if on is not None and not isinstance(result, torch.Size | int | float | bool):
            put(result, on)
        return pin(result) if locked else result

    def _under(self, mark: bool, call: Callable[[], Any]) -> Any:
        thread = self._seen.thread
        before, thread.pending = thread.pending, mark
        try:
            return call()
        finally:
            thread.pending = before

    def _to(self, func: Any, tensor: Tensor, rest: list[Any], kwargs: dict[str, Any]) -> Any:
        target = on_gpu(tensor)
        for place, value in enumerate(rest):
            if names_device(value):
                target, rest[place] = names_gpu(value), CPU
            elif isinstance(value, Tensor):
                target = on_gpu(value)
        if kwargs.get("device") is not None:
            target, kwargs["device"] = names_gpu(kwargs["device"]), CPU
        free = bool(kwargs.get("non_blocking")) and pinned(tensor)
        return self._moved(tensor, func(tensor, *rest, **kwargs), target, free)

    def _moved(self, tensor: Tensor, result: Tensor, target: bool, free: bool) -> Tensor:
        """`result`, which was made of `tensor` where that was, on the other device."""
        if on_gpu(tensor) == target:
            return result
        if not target:
            self._seen.note("wait", "a copy to the host")
        elif not free:
            self._seen.note("copy in", "a copy of memory that is not page-locked")
        return put(self._under(target, result.clone), target)


def _attribute(func: Any, args: Any, kwargs: Any) -> Any:
    owner = func.__self__
    if owner is torch.Tensor.device:
        return GPU if on_gpu(args[0]) else func(*args)
    if owner is torch.Tensor.is_cuda:
        return on_gpu(args[0])
    if owner is torch.Tensor.is_cpu:
        return not on_gpu(args[0])
    return func(*args, **kwargs)
