"""Batches of a `Split`, made on its device without worker processes or host syncs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from debias.data.augment import AUGMENTATIONS, VIEWS, blocks
from debias.data.mapped import MappedImages
from debias.data.split import Split
from debias.errors import UserError


class Batch(NamedTuple):
    """images float32 [B, C, H, W]; target int64 [B]; index int64 [B], position in the split; bias int64 [B] or None.

    Where features take the place of images, these are float32 [B, D, 1, 1].
    vector : float32 [B, V], the second modality as the split holds it, or None
    """

    images: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a batch
    bias: Tensor | None
    vector: Tensor | None = None

    @property
    def inputs(self) -> Tensor | tuple[Tensor, Tensor]:
        """What a network is given: the images, or images and vectors."""
        return self.images if self.vector is None else (self.images, self.vector)


class Batches:
    """The batches of one split, an epoch at a time.

    Images are augmented, scaled to [0, 1], then normalised with `mean` and `std`. Of features (`Split.images`) one view
    is drawn under the augmentation `views`, else the first is taken; they are normalised as they are. Images that stay
    in files are read ahead while earlier batches are trained on; their batches are the same to the last bit.

    Parameters
    ----------
    split
        Source of the images; batches live on its device.
    batch_size
        Images a batch; the last one is shorter unless `drop_last`.
    mean, std
        Per channel, both or neither.
    augment
        Name in `AUGMENTATIONS`.
    shuffle
        False: in order, as views of the split (evaluation).
    drop_last
        Leave out a last batch that is not full.
    drop_single
        Leave out a last batch of one image, after full ones: batch normalisation knows no spread of one.
    weights
        Non-negative [N]: draw images with replacement, each with probability weights / weights.sum().
    draws
        Images an epoch; default N. Without weights every image comes once before any comes again.

    Raises
    ------
    UserError
        Not a single batch would come out, or an unknown augmentation.
    ValueError
        Arguments that contradict each other.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        augment: str | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        drop_single: bool = False,
        weights: Tensor | None = None,
        draws: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: a batch holds at least one image")
        if (mean is None) != (std is None):
            raise ValueError("mean and std go together: give both or neither")
        if augment is not None and augment not in AUGMENTATIONS:
            raise UserError(f"augment={augment!r} is unknown; available: {', '.join(AUGMENTATIONS)}")
        if augment is not None and (augment == VIEWS) != split.is_features:
            raise ValueError(f"augment={augment!r} is not for {'features' if split.is_features else 'images'}")
        if draws is not None and not shuffle:
            raise ValueError("draws are random: they cannot be combined with shuffle=False")
        if weights is not None and not shuffle:
            raise ValueError("weights draw at random: they cannot be combined with shuffle=False")

        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.drop_single = drop_single
        self.weights = None if weights is None else weights.detach().to(split.device, torch.float32)
        self._cumulative = None if weights is None else _cumulative(weights, split)
        self.draws = len(split) if draws is None else draws
        if len(self) == 0:
            raise UserError(
                f"{self.draws} images do not make one batch of batch_size={batch_size} (drop_last={drop_last}): "
                "choose a smaller batch_size or use more images"
            )
        self._augment = None if augment is None else AUGMENTATIONS[augment]
        self._scale, self._shift = _normalisation(mean, std, split)
        # Rows of a 2-D tensor are gathered by plain memory copies.
        self._rows = split.images if isinstance(split.images, MappedImages) else split.images.flatten(1)

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(self.draws, self.batch_size)
        alone = self.drop_single and full > 0 and rest == 1
        return full + (rest > 0 and not self.drop_last and not alone)

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        The order is drawn from `generator` (on the split's device; None: torch's global one) when the first batch is
        asked for, augmentations as each batch is made. The same generator state gives the same epoch.
        """
        if not self.shuffle:
            yield from self._in_order(generator)
            return
        parts = self.order(generator).split(self.batch_size)
        for index, rows in zip(parts, self._read(parts), strict=True):
            yield self._made(index, rows, generator)

    @property
    def in_memory(self) -> bool:
        """Whether `batch` can make batches: the images are on the device, not read from files as they are needed."""
        return isinstance(self._rows, Tensor)

    def order(self, generator: torch.Generator | None = None) -> Tensor:
        """Positions of the images of an epoch, int64 [n] on the device, drawn from `generator`; batches of them follow
        one another, and the last may be short."""
        count, device = len(self.split), self.split.device
        if self._cumulative is None:
            passes = -(-self.draws // count)
            orders = [torch.randperm(count, generator=generator, device=device) for _ in range(passes)]
            order = orders[0] if passes == 1 else torch.cat(orders)
            order = order[: self.draws]
        else:
            # Not torch.multinomial, whose sums are of float32 and, on a GPU, not always the same.
            drawn = torch.rand(self.draws, generator=generator, device=device, dtype=torch.float64)
            order = torch.searchsorted(self._cumulative, drawn, right=True)
        return order[: len(self) * self.batch_size]

    def prepared_like(self, other: "Batches") -> bool:
        """Whether rows become images here as there, and without draws."""
        mine, theirs = (
            [torch.as_tensor(value).flatten().tolist() for value in (own._scale, own._shift) if value is not None]
            for own in (self, other)
        )
        return self._augment is None and other._augment is None and mine == theirs

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The batch of images at positions `index`, int64 [B] on the device, where they are `in_memory`."""
        assert isinstance(self._rows, Tensor)
        return self._made(index, self._rows.index_select(0, index), generator)

    def _made(self, index: Tensor, rows: Tensor, generator: torch.Generator | None) -> Batch:
        bias = None if self.split.bias is None else self.split.bias.index_select(0, index)
        vector = None if self.split.vector is None else self.split.vector.index_select(0, index)
        target = self.split.target.index_select(0, index)
        return Batch(self.prepared(rows, generator), target, index, bias, vector)

    def _in_order(self, generator: torch.Generator | None) -> Iterator[Batch]:
        order = torch.arange(self.draws, device=self.split.device)
        parts = order.split(self.batch_size)[: len(self)]
        for number, (index, rows) in enumerate(zip(parts, self._read(parts), strict=True)):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            bias = None if self.split.bias is None else self.split.bias[part]
            vector = None if self.split.vector is None else self.split.vector[part]
            yield Batch(self.prepared(rows, generator), self.split.target[part], index, bias, vector)

    def _read(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The rows [B, C*H*W] of each part of the order, uint8; of features [B, V*D], float16."""
        if isinstance(self._rows, MappedImages):
            return self._rows.stream(parts)
        if not self.shuffle:
            return iter(self._rows[: self.draws].split(self.batch_size)[: len(parts)])
        return map(self._rows.index_select, [0] * len(parts), parts)

    def prepared(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Turn uint8 rows [B, C*H*W] into augmented, normalised float32 images [B, C, H, W]; float16 ones of features,
        [B, V*D], into [B, D, 1, 1]."""
        raw = rows.view(-1, *self.split.images.shape[1:])
        if self._augment is not None:
            # Padding is black only before normalisation.
            raw = self._augment(raw, generator)
        elif self.split.is_features:
            raw = raw[:, 0]
        if self.split.is_features:
            raw = raw[:, :, None, None]
        images = torch.empty(raw.shape, dtype=torch.float32, device=raw.device)
        for part in blocks(raw):
            # Converts and scales in one pass.
            block = torch.mul(raw[part], self._scale, out=images[part])
            if self._shift is not None:
                block.add_(self._shift)
        return images


def _normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, split: Split
) -> tuple[float | Tensor, Tensor | None]:
    """(x / 255 - mean) / std as one multiplication and one addition: [C, 1, 1] each, or (1 / 255, None).

    Of features (x - mean) / std, or (1, None).
    """
    whole = 1 if split.is_features else 255
    if mean is None or std is None:
        return 1 / whole, None
    channels = split.images.shape[2 if split.is_features else 1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean and std need {channels} values, one a channel; got {len(mean)} and {len(std)}")
    centre, spread = (torch.tensor(values, device=split.device).view(-1, 1, 1) for values in (mean, std))
    return 1 / (whole * spread), -centre / spread


def _cumulative(weights: Tensor, split: Split) -> Tensor:
    """Share of the weights up to and including each image, float64 [N] on the split's device.

    Checked and summed once, here, so that an epoch need not look at values on the host. On the CPU, where the order of
    a sum is fixed. From the last image that has a weight on it is 1, which no draw from [0, 1) reaches.
    """
    if weights.shape != (len(split),):
        raise ValueError(f"weights must be [{len(split)}], one an image; got {list(weights.shape)}")
    weights = weights.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(weights).all() & (weights >= 0).all() & (weights.sum() > 0)):
        raise ValueError("weights must be finite, non-negative and not all zero")
    total = weights.cumsum(0)
    return (total / total[-1]).to(split.device)
