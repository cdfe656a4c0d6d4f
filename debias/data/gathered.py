"""Batches of several splits together: where their images fit side by side on a GPU, by one gather for all."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from debias.data.batches import Batch, Batches
from debias.data.mapped import SHARE, free_memory


class Gathered:
    """The batches of several trainings, stacked.

    On a GPU images, labels and vectors of all splits are copied into one tensor each, where they take no more than half
    of the memory that is free and are not augmented; elsewhere each split gives its own batch.

    Parameters
    ----------
    batches
        One for each training, all `in_memory`, of images of one shape.
    """

    def __init__(self, batches: Sequence[Batches]) -> None:
        self._batches = batches
        self._rows: Tensor | None = None
        splits = [own.split for own in batches]
        device = splits[0].device
        size = sum(split.images.nbytes for split in splits)
        alike = all(own.prepared_like(batches[0]) for own in batches)
        if device.type == "cuda" and alike and size <= SHARE * free_memory(device):
            self._rows = torch.cat([split.images.flatten(1) for split in splits])  # type: ignore[union-attr]
            self._labels = {
                name: torch.cat([getattr(split, name) for split in splits])
                for name in ("target", "bias", "vector")
                if getattr(splits[0], name) is not None
            }
            lengths = [len(split) for split in splits]
            starts = [sum(lengths[:place]) for place in range(len(splits))]
            self._starts = torch.tensor(starts, device=device).unsqueeze(1)

    def columns(self, index: Tensor, generators: Sequence[torch.Generator]) -> list[Tensor]:
        """What a `Batch` holds (but for what is None), each stacked [S, B, ...], of positions `index`, int64 [S, B]."""
        if self._rows is None:
            return side_by_side([own.batch(*draw) for own, *draw in zip(self._batches, index, generators, strict=True)])
        place = (index + self._starts).flatten()
        images = self._batches[0].prepared(self._rows.index_select(0, place), None)
        found: dict[str, Any] = {name: column.index_select(0, place) for name, column in self._labels.items()}
        batch = Batch(images, found["target"], place, found.get("bias"), found.get("vector"))
        columns = [column.unflatten(0, index.shape) for column in batch if column is not None]
        columns[Batch._fields.index("index")] = index
        return columns


def side_by_side(batches: Sequence[Batch]) -> list[Tensor]:
    """Batches of one size as tensors [S, B, ...], one for each field that is not None."""
    present = [[value for value in batch if value is not None] for batch in batches]
    return [torch.stack(column) for column in zip(*present, strict=True)]
