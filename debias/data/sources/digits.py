"""The embedded source: scikit-learn's 1,797 handwritten digits varied into a set of MNIST's size, no download."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from debias.data.cache import Arrays, cached, key_of
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.data.split import stratified_choice
from debias.randomness import stream

VERSION = 1
SEED = 1797
SIZE = 28
INNER = 20
CHUNK = 500
# Ranges of the variations; the shift and the elastic field are in pixels of the 28x28 image.
MAX_ANGLE = math.radians(15)
MAX_SCALE = 0.15
MAX_SHEAR = 0.15
MAX_SHIFT = 2.0
ELASTIC_STD = 0.8
ELASTIC_KNOTS = 5
# Enlarged strokes are blurred; stretching these grey values to 0..1 gives MNIST's stroke width and share of ink.
BLACK, WHITE = 0.35, 0.75

Variation = Callable[[Tensor, torch.Generator], Tensor]


def digits(cache_dir: str | Path, n_train: int = 60_000, n_test: int = 10_000) -> Source:
    """Return the embedded digits: `n_train` and `n_test` variations of two disjoint sets of handwritten originals.

    The same numbers give the same images everywhere and always; built once under `cache_dir`.
    """
    key = key_of(builder="digits", version=VERSION, n_train=n_train, n_test=n_test)
    arrays = cached(cache_dir, "digits", key, lambda: build_arrays(n_train, n_test))
    return Source(
        arrays["train_images"],
        np.asarray(arrays["train_labels"]),
        arrays["test_images"],
        np.asarray(arrays["test_labels"]),
        MNIST_NAMES,
        np.arange(n_train),
        np.arange(n_test),
    )


def build_arrays(n_train: int, n_test: int, variation: Variation | None = None) -> Arrays:
    """Split the originals by image (5/6 and 1/6 of every class), then vary each part on its own (by `vary`)."""
    threads = torch.get_num_threads()
    # Some thirty small operations a chunk: on a busy machine threads mostly wait for each other.
    torch.set_num_threads(1)
    try:
        return _build_parts(n_train, n_test, variation or vary)
    finally:
        torch.set_num_threads(threads)


def _build_parts(n_train: int, n_test: int, variation: Variation) -> Arrays:
    originals, labels = _originals()
    is_test = stratified_choice(labels, 1 / 6, stream(SEED, "originals"))
    arrays = {}
    for part, mask, n in (("train", ~is_test, n_train), ("test", is_test, n_test)):
        generator = stream(SEED, part)
        mine, my_labels = originals[mask], labels[mask]
        # Every original equally often (to within one), in random order.
        order = (torch.arange(n) % len(mine))[torch.randperm(n, generator=generator)]
        images = torch.empty(n, SIZE, SIZE, dtype=torch.uint8)
        with tqdm(total=n, desc=f"digits, {part}", unit="image", disable=None) as bar:
            for index, out in zip(order.split(CHUNK), images.split(CHUNK), strict=True):
                out.copy_(variation(mine.index_select(0, index), generator).mul_(255).round_())
                bar.update(len(index))
        arrays[f"{part}_images"] = images.numpy()
        arrays[f"{part}_labels"] = my_labels.index_select(0, order).numpy()
    return arrays


def _originals() -> tuple[Tensor, Tensor]:
    """scikit-learn's 8x8 digits as float [1797, 28, 28] in [0, 1], 20x20 and centred as MNIST's are; int64 labels."""
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    grey = torch.from_numpy(small).float().view(-1, 1, 8, 8) / 16
    large = F.interpolate(grey, (INNER, INNER), mode="bicubic", align_corners=False)
    large = large / large.amax((2, 3), keepdim=True)
    return F.pad(large.clamp_(0, 1), ((SIZE - INNER) // 2,) * 4).squeeze(1), torch.from_numpy(labels).long()


def vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random rotation, scale, shear, shift and a smooth elastic field for each image, then a stretch of the contrast.

    images : float [B, 28, 28] in [0, 1]; returns the same shape and range. Deterministic in `generator`.
    """
    batch = len(images)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(batch, 1, 1, generator=generator) * 2 - 1) * limit

    angle, scale, shear = uniform(MAX_ANGLE), 1 + uniform(MAX_SCALE), uniform(MAX_SHEAR)
    shift_x, shift_y = uniform(MAX_SHIFT), uniform(MAX_SHIFT)
    knots = torch.randn(batch, 2, ELASTIC_KNOTS, ELASTIC_KNOTS, generator=generator) * ELASTIC_STD
    # Bicubic interpolation is linear: one small matrix along each axis, much faster than `interpolate` on the batch.
    spread = F.interpolate(
        torch.eye(ELASTIC_KNOTS)[None, None], (SIZE, ELASTIC_KNOTS), mode="bicubic", align_corners=True
    )
    elastic = spread[0, 0] @ knots @ spread[0, 0].T

    # Where each pixel of the result comes from, in pixels from the centre.
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    x, y = axis.view(1, 1, -1) - shift_x, axis.view(1, -1, 1) - shift_y
    x = x + shear * y
    from_x = (angle.cos() * x + angle.sin() * y) / scale + elastic[:, 0]
    from_y = (angle.cos() * y - angle.sin() * x) / scale + elastic[:, 1]
    # grid_sample counts [-1, 1] from edge to edge.
    grid = torch.stack((from_x, from_y), dim=-1) * (2 / SIZE)
    varied = F.grid_sample(images.unsqueeze(1), grid, mode="bilinear", align_corners=False).squeeze(1)
    return varied.sub_(BLACK).div_(WHITE - BLACK).clamp_(0, 1)
