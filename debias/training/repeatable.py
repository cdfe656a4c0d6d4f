"""Whether the same run gives the same numbers again: deterministic kernels where there are any, and what is not."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator

import torch


def prefer_deterministic(device: torch.device, *, exact: bool) -> None:
    """Have a CUDA GPU compute by algorithms that give the same numbers every time, where it has them.

    exact : whether products, convolutions too, are to be of float32 in full and not of TensorFloat-32
    """
    if device.type != "cuda":
        return
    # Of cuBLAS; read when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = not exact


@contextlib.contextmanager
def noting_what_is_not(device: torch.device) -> Iterator[list[str]]:
    """Collect the names of operations inside that are not deterministic on this device; on a CPU all are.

    Deterministic kernels stay chosen afterwards where nothing was found; else they gain nothing.
    """
    found: list[str] = []
    if device.type != "cuda":
        yield found
        return
    # Filling new memory, the default, is for finding reads of it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield found
        finally:
            names = [re.match(r"(.+?) does not have a deterministic implementation", str(w.message)) for w in caught]
            found += dict.fromkeys(name[1] for name in names if name is not None)
            torch.use_deterministic_algorithms(not found, warn_only=True)
    for warning, name in zip(caught, names, strict=True):
        if name is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
