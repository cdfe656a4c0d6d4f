"""A part of a data set (`Split`), a whole biased classification problem (`Task`), and the seeded hold-out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debias.data.mapped import MappedImages
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.randomness import stream


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels, all on one device.

    images : uint8 [N, C, H, W]; a tensor, or files from which batches are read for the device. Or what a pretrained
        network gave of them: features, float16 [N, V, D], of V views of each image, the image as it is first
    target : int64 [N], class to predict
    bias : int64 [N], nuisance attribute; None where it is unknown or withheld
    ids : int64 [N], position of each image in its source; survives subsets and hold-outs
    vector : float32 [N, V], a second modality beside the image; None where there is none
    pictures : the images that features were made of, uint8 [N, C, H, W], to be looked at; they stay where they are
    """

    images: Tensor | MappedImages
    target: Tensor
    bias: Tensor | None
    ids: Tensor
    vector: Tensor | None = None
    pictures: Tensor | MappedImages | None = None

    def __post_init__(self) -> None:
        kind = (self.images.dtype, self.images.ndim)
        if kind not in ((torch.uint8, 4), (torch.float16, 3)):
            raise ValueError(
                "images must be uint8 [N, C, H, W], or features float16 [N, V, D], got "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        for name, column in (("target", self.target), ("bias", self.bias), ("ids", self.ids)):
            if column is None:
                continue
            if column.dtype != torch.int64 or column.shape != (len(self),):
                raise ValueError(f"{name} must be int64 [{len(self)}], got {column.dtype} {list(column.shape)}")
            if column.device != self.images.device:
                raise ValueError(f"{name} is on {column.device}, images are on {self.images.device}")
        vector = self.vector
        if vector is not None:
            if vector.dtype != torch.float32 or vector.ndim != 2 or len(vector) != len(self):
                raise ValueError(f"vector must be float32 [{len(self)}, V], got {vector.dtype} {list(vector.shape)}")
            if vector.device != self.images.device:
                raise ValueError(f"vector is on {vector.device}, images are on {self.images.device}")

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def is_features(self) -> bool:
        """Whether features of a pretrained network take the place of the images."""
        return self.images.ndim == 3

    @property
    def shown(self) -> Tensor | MappedImages:
        """The images to be looked at, uint8 [N, C, H, W]: also where features take their place in training."""
        return self.images if self.pictures is None else self.pictures

    def without_bias(self) -> Split:
        """Return the same images and targets with the bias column withheld (nothing is copied)."""
        return replace(self, bias=None)

    def to(self, device: torch.device | str) -> Split:
        bias = None if self.bias is None else self.bias.to(device)
        vector = None if self.vector is None else self.vector.to(device)
        target = self.target.to(device)
        return Split(self.images.to(target.device), target, bias, self.ids.to(device), vector, self.pictures)

    def subset(self, index: Tensor) -> Split:
        """Return the images at positions `index` (int64 [M], in that order, repeats allowed)."""
        index = index.to(self.device)
        bias = None if self.bias is None else self.bias.index_select(0, index)
        return Split(
            self.images.index_select(0, index),
            self.target.index_select(0, index),
            bias,
            self.ids.index_select(0, index),
            None if self.vector is None else self.vector.index_select(0, index),
            None if self.pictures is None else self.pictures.index_select(0, index.to(self.pictures.device)),
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A biased classification problem: its splits, and what is needed to feed, name and plot them.

    key : hex digest naming exactly this data (source content, config, seed, builder version)
    mean, std : per channel, applied after scaling to [0, 1]; None: no normalisation
    augment : name in `data.augment.AUGMENTATIONS` for training batches; None: none
    bias_colours : float [n_biases, 3] in [0, 1] for the axes of plots; None where the bias is not a colour
    extra_tests : further test sets by name (a word such as `grey`), measured every epoch as <read-out>@<name>; they
        select nothing
    selection : what choosing an epoch on `valid` is called: `valid` where these are held-out training images, biased
        as they come; `valid_<how>` where they are not, so that its figures never pass for that
    content : hex digest of the images that a user brought, whatever the seed; None where settings say which they are
    files : path of every training image by its id; None where images do not come from files
    digests : hex digest of the content of each of these files
    other_files : path, part (valid, test) and target of every other image of files
    preparation : how image files become images of this size; None where images do not come from files
    features : which pretrained network's features take the place of the images, as it is recorded: network, digest
        of its weights, ... (`features.source.Source.about`); None where networks are given images
    notes : lines for the user, about files that were left out
    ties : int8 [T, B] on the CPU: whether the images of a cell are aligned (1), conflicting (-1) or neither (0); None
        where the images of class i are aligned with bias i and conflicting with all others
    """

    name: str
    train: Split
    test: Split
    valid: Split | None
    target_names: tuple[str, ...]
    bias_names: tuple[str, ...] | None
    key: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: str | None = None
    bias_colours: Tensor | None = None
    extra_tests: Mapping[str, Split] = field(default_factory=dict)
    selection: str = "valid"
    content: str | None = None
    files: tuple[str, ...] | None = None
    digests: tuple[str, ...] | None = None
    other_files: tuple[tuple[str, str, int], ...] | None = None
    preparation: Preparation | None = None
    features: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    ties: Tensor | None = None

    def __post_init__(self) -> None:
        # Names stand in figures as <read-out>@<test>/<figure>/<selection>.
        for name in self.extra_tests:
            if not name.isidentifier():
                raise ValueError(f"extra test {name!r}: a name is one word of letters, digits and underscores")
        if not (self.selection.isidentifier() and self.selection.startswith("valid")):
            raise ValueError(f"selection {self.selection!r}: `valid`, or a word that begins with it")

    @property
    def n_targets(self) -> int:
        return len(self.target_names)

    @property
    def n_biases(self) -> int:
        """Number of bias classes, 0 where the bias is unknown."""
        return 0 if self.bias_names is None else len(self.bias_names)

    @functools.cached_property
    def group_shares(self) -> NDArray[np.float64] | None:
        """Share of every group, [T, B], in the training images; None without bias labels.

        True labels are read for reports only. The first time is a CPU-GPU sync point.
        """
        if self.train.bias is None:
            return None
        cell = (self.train.target * self.n_biases + self.train.bias).cpu()
        counts = torch.bincount(cell, minlength=self.n_targets * self.n_biases)
        return counts.double().div(max(1, len(cell))).view(self.n_targets, self.n_biases).numpy()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what networks are given; (D, 1, 1) of features."""
        if self.train.is_features:
            return self.train.images.shape[2], 1, 1
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images as they are looked at."""
        channels, height, width = self.train.shown.shape[1:]
        return channels, height, width

    @property
    def vector_size(self) -> int:
        """Length of the second modality's vector, 0 where there is no second modality."""
        return 0 if self.train.vector is None else self.train.vector.shape[1]

    def conflicting(self, split: Split) -> Tensor | None:
        """Which images of one of the splits conflict, bool [N] on its device; None where it cannot be said of any."""
        return self._tied(split, -1)

    def aligned(self, split: Split) -> Tensor | None:
        """Which images of one of the splits are aligned, bool [N] on its device; None as for `conflicting`."""
        return self._tied(split, 1)

    def _tied(self, split: Split, how: int) -> Tensor | None:
        if split.bias is None:
            return None
        if self.ties is None:
            return (split.bias == split.target) == (how == 1)
        if not bool(self.ties.any()):
            return None
        return self.ties.to(split.device)[split.target, split.bias] == how

    def to(self, device: torch.device | str) -> Task:
        valid = None if self.valid is None else self.valid.to(device)
        extra = {name: split.to(device) for name, split in self.extra_tests.items()}
        return replace(self, train=self.train.to(device), test=self.test.to(device), valid=valid, extra_tests=extra)


def stratified_choice(target: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Choose round(fraction * n) of the n images of every target at random.

    target : int64 [N] on the CPU; returns bool [N], True where chosen.
    """
    shuffled = torch.randperm(len(target), generator=generator)
    by_target = shuffled[torch.argsort(target[shuffled], stable=True)]
    count = torch.bincount(target)
    start = count.cumsum(0) - count
    rank = torch.arange(len(target)) - start[target[by_target]]
    quota = torch.round(count.double() * fraction).long()
    chosen = torch.empty(len(target), dtype=torch.bool)
    chosen[by_target] = rank < quota[target[by_target]]
    return chosen


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split off a validation part: round(fraction * n) images of every target, drawn at random with `seed`.

    Returns (train, valid), both in the order of `split` and with its ids. Bias labels play no part in the draw.

    Raises
    ------
    UserError
        `fraction` outside [0, 1), or one that leaves either part without images.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"valid_fraction={fraction}: the held-out share of the training images must be in [0, 1)")
    held = stratified_choice(split.target.cpu(), fraction, stream(seed, "hold-out"))
    train, valid = (mask.nonzero().squeeze(1) for mask in (~held, held))
    if len(train) == 0 or (fraction > 0 and len(valid) == 0):
        part = "training" if len(train) == 0 else "held-out"
        raise UserError(
            f"valid_fraction={fraction} of {len(split)} images leaves the {part} part empty: "
            "choose a fraction nearer to one half, or 0 for no validation"
        )
    return split.subset(train), split.subset(valid)
