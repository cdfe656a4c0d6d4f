"""Images that stay on disk: rows of memory-mapped arrays that take the place of a tensor in a `Split`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

STREAMING = ("auto", "always", "never")
# Share of the free memory that images may take; the rest is for networks and everybody else.
SHARE = 0.5
# Batches that are read while one is trained on.
AHEAD = 2
_CHUNK = 64 * 2**20


class MappedImages:
    """uint8 [N, C, H, W] in files.

    Parameters
    ----------
    arrays
        uint8 [M, C, H, W] each, memory-mapped; rows are counted through all of them.
    rows
        int64 [N] on the CPU: which rows, in which order.
    device
        Where batches of them are wanted.
    streaming
        Whether `to` leaves them in their files: auto (only when the device's free memory is too small), always, never.
    free
        Bytes that are free on a device; by default `free_memory`.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        rows: Tensor,
        device: torch.device | str = "cpu",
        streaming: str = "auto",
        free: Callable[[torch.device], int] | None = None,
    ) -> None:
        self._arrays = [array.reshape(len(array), -1) for array in arrays]
        self._starts = np.cumsum([0, *(len(array) for array in arrays)])
        self._image = tuple(int(side) for side in arrays[0].shape[1:])
        self._sources = tuple(arrays)
        self.rows = rows
        self.device = torch.device(device)
        self.streaming = streaming
        self._free = free or free_memory

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self._image))

    @property
    def nbytes(self) -> int:
        return self.shape.numel()

    def index_select(self, dim: int, index: Tensor) -> MappedImages:
        """The images at positions `index`; nothing is read."""
        assert dim == 0
        return MappedImages(self._sources, self.rows[index.cpu()], self.device, self.streaming, self._free)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images at positions (int64 or bool) as a tensor on the CPU."""
        rows = self.rows[index.cpu()]
        return torch.from_numpy(self._read(rows.numpy())).view(-1, *self._image)

    def to(self, device: torch.device | str) -> Tensor | MappedImages:
        """All images as one tensor on `device` where they fit, else themselves, giving their batches there."""
        device = torch.device(device)
        whole = self.streaming == "never" or (self.streaming == "auto" and self.nbytes <= SHARE * self._free(device))
        if not whole:
            return MappedImages(self._sources, self.rows, device, self.streaming, self._free)
        images = torch.empty(self.shape, dtype=torch.uint8, device=device)
        step = max(1, _CHUNK // max(1, images[0].numel())) if len(self) else 1
        for start in range(0, len(self), step):
            part = self._read(self.rows[start : start + step].numpy())
            images[start : start + step].copy_(torch.from_numpy(part).view(-1, *self._image))
        return images

    def stream(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """For each int64 index in turn its images, uint8 [B, C*H*W] on the device, read ahead by another thread.

        The indices may be on the device; they come to the host at the beginning. A CPU-GPU sync point.
        """
        if not parts:
            return
        places = torch.cat(list(parts)).cpu().split([len(part) for part in parts])
        waiting: deque[Future[Tensor]] = deque()
        # Of its own for each pass: one that is abandoned takes its reader along.
        with ThreadPoolExecutor(1, thread_name_prefix="stream") as reader:
            for place in places:
                waiting.append(reader.submit(self._batch, place))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result().to(self.device, non_blocking=True)
            while waiting:
                yield waiting.popleft().result().to(self.device, non_blocking=True)

    def _batch(self, place: Tensor) -> Tensor:
        width = int(np.prod(self._image))
        batch = torch.empty(len(place), width, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        self._read(self.rows[place].numpy(), batch.numpy())
        return batch

    def _read(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows as uint8 [n, C*H*W]."""
        if out is None:
            out = np.empty((len(rows), int(np.prod(self._image))), dtype=np.uint8)
        if len(self._arrays) == 1:
            # "clip" writes straight into `out`; rows are in range.
            return np.take(self._arrays[0], rows, axis=0, out=out, mode="clip")
        number = np.searchsorted(self._starts, rows, side="right") - 1
        for i, array in enumerate(self._arrays):
            mine = np.flatnonzero(number == i)
            out[mine] = array[rows[mine] - self._starts[i]]
        return out


def in_memory(images: Tensor | MappedImages) -> Tensor:
    """The images themselves, to be looked at; all of them are read."""
    return images if isinstance(images, Tensor) else images[torch.arange(len(images))]


def free_memory(device: torch.device) -> int:
    """Bytes free on a device, or of the machine; what cannot be told counts as none."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as handle:  # noqa: PTH123
            about: dict[str, Any] = dict(line.split(":") for line in handle)
        return int(about["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0
