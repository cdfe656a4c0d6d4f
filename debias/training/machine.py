"""The device a run computes on, and how its CPU is set up."""

import contextlib
import ctypes

import torch

from debias.errors import UserError
from debias.training.yielding import give_way

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def prepare_cpu(threads: int | None = None) -> None:
    """Set the number of CPU threads (None leaves it to torch), flush denormal numbers to zero, and keep freed memory.

    Weights of pixels that are black in every image have no gradient but their decay's: they and their moments shrink
    until they are denormal, and products with denormal numbers made an epoch of Colored MNIST ten times slower. To be
    called before the first parallel operation: threads take the mode over when they are started.

    Freed memory stays with the process: a batch of photographs is larger than what the C library keeps by itself, and
    fetching its pages from the system again each time took two thirds of the time in which a batch is made.
    """
    torch.set_flush_denormal(True)
    with contextlib.suppress(AttributeError, OSError):  # other C libraries do not have it
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    if threads is not None:
        torch.set_num_threads(threads)
    give_way()


def pick_device(name: str) -> torch.device:
    """The device a setting names; `auto` is a CUDA GPU when there is one, else the CPU.

    Raises
    ------
    UserError
        When there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # what drivers that are not there raise has no common type
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"device={name}: not available here ({reason}); try device=auto") from error
    return device


def device_name(device: torch.device) -> str:
    """What the figures were computed on, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
