"""Colored MNIST with colour jitter: flat digits on black in a colour near that of their class (Kim et al., CVPR 2019).

The generator behind the published files was never released; this one follows the paper and what the files show: digits
are cut at mid-grey and painted in one colour, which is the class's own plus normal noise of variance sigma^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debias.data.cache import Arrays, cached, key_of
from debias.data.generated.colored import PALETTE as COLORED_MNIST
from debias.data.generated.colored import assign_bias
from debias.data.generated.tasks import split_of, task_of
from debias.data.kinds import JITTER
from debias.data.sources.by_name import Read, on_sources, source_of
from debias.data.sources.cifar_files import MEAN, STD
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.data.sources.released_jitter import find_file, read_released
from debias.data.spec import DatasetSpec
from debias.data.split import Split, Task
from debias.digests import digest_of_file
from debias.errors import UserError
from debias.randomness import stream

VERSION = 1
# Grey values above it are ink: with it the digits of the published files have the number of pixels they have there.
THRESHOLD = 128
# Crimson, teal, lemon, bondi blue, carrot, violet, cyan, pink, lime, maroon; they fit the published training images.
PALETTE = (
    (220, 20, 60),
    (0, 128, 128),
    (253, 233, 16),
    (0, 149, 182),
    (237, 145, 33),
    (145, 30, 188),
    (70, 240, 240),
    (250, 197, 187),
    (210, 245, 60),
    (128, 0, 0),
)
COLOUR_NAMES = ("crimson", "teal", "lemon", "bondi", "carrot", "violet", "cyan", "pink", "lime", "maroon")
PALETTES = ("jitter", "colored", "random")
REDRAWS = 100
IGNORED = 255
BIN = 32
BINS = 256 // BIN


def palette_colours(palette: str, seed: int) -> Tensor:
    """Ten mean colours, float [10, 3] in [0, 1]: this file's, those of colored_mnist, or uniform ones of the seed."""
    if palette == "jitter":
        return torch.tensor(PALETTE) / 255
    if palette == "colored":
        return torch.tensor(COLORED_MNIST)
    if palette == "random":
        # Never near black, the background.
        return 0.1 + 0.9 * torch.rand(10, 3, generator=stream(seed, "palette"))
    raise UserError(f"palette={palette!r}: one of {', '.join(PALETTES)}")


def draw_colours(mean: Tensor, variance: float, generator: torch.Generator) -> Tensor:
    """One colour an image, uint8 [N, 3]: clamp(mean + N(0, variance I), 0, 1), rounded.

    A colour that would be black, and so equal to the background, is drawn again; after many attempts it is the mean.

    mean : float [N, 3] in [0, 1]

    Raises
    ------
    UserError
        A negative variance, or a mean that is black itself.
    """
    if variance < 0:
        raise UserError(f"variance={variance}: the variance of colours cannot be negative")
    middle = mean.mul(255).round_()
    if bool((middle == 0).all(1).any()):
        raise UserError("a class colour is black, as the background is: its digits could not be seen")
    deviation = variance**0.5

    def draw(around: Tensor) -> Tensor:
        noise = torch.randn(around.shape, generator=generator)
        return (around + deviation * noise).clamp_(0, 1).mul_(255).round_()

    colours = draw(mean)
    for _ in range(REDRAWS):
        black = (colours == 0).all(1).nonzero().squeeze(1)
        if len(black) == 0:
            break
        colours[black] = draw(mean[black])
    black = (colours == 0).all(1, keepdim=True)
    return torch.where(black, middle, colours).to(torch.uint8)


def paint(grey: np.ndarray, colours: Tensor) -> np.ndarray:
    """Every pixel above the threshold in its image's colour, every other one black.

    grey : uint8 [N, H, W]; colours : uint8 [N, 3]; returns uint8 [N, 3, H, W].
    """
    return (grey > THRESHOLD)[:, None] * colours.numpy()[:, :, None, None]


def bias_map(images: Tensor) -> Tensor:
    """The bias of every other pixel of every other row: in which of eight bins each channel is; 255 where it is 0.

    Background pixels, and a digit's channel whose value is 0, are 255 and count nowhere.

    images : uint8 [N, C, H, W]; returns uint8 [N, C, H // 2, W // 2].
    """
    half = images[:, :, 1::2, 1::2]
    return torch.where(half == 0, IGNORED, half // BIN).to(torch.uint8)


def data_key(source: Source, skew: float, variance: float, palette: str, seed: int) -> str:
    """Hex digest naming the arrays of `build_arrays` with the same arguments."""
    return key_of(
        builder="jitter",
        version=VERSION,
        source=source.digest,
        skew=float(skew),
        variance=float(variance),
        palette=palette,
        seed=seed,
    )


def build_arrays(source: Source, skew: float, variance: float, palette: str, seed: int) -> Arrays:
    """Paint a source: training images near the colour of their class, but for a share `skew`; test images near one of
    the ten drawn at random.

    Returns {train,test}_{images,target,bias,ids}, grey_images (the test images unpainted) and colours.
    """
    n = len(source.names)
    colours = palette_colours(palette, seed)
    drawn = torch.randint(0, n, (len(source.test_labels),), generator=stream(seed, "bias test")).numpy()
    arrays: Arrays = {
        "colours": colours.numpy(),
        "grey_images": np.ascontiguousarray(np.broadcast_to(source.test_images[:, None], (len(drawn), 3, 28, 28))),
    }
    for part, images, labels, ids, bias in (
        (
            "train",
            source.train_images,
            source.train_labels,
            source.train_ids,
            assign_bias(source.train_labels, skew, n),
        ),
        ("test", source.test_images, source.test_labels, source.test_ids, drawn),
    ):
        mean = colours[torch.from_numpy(bias)]
        arrays[f"{part}_images"] = paint(images, draw_colours(mean, variance, stream(seed, f"colour {part}")))
        arrays[f"{part}_target"], arrays[f"{part}_bias"], arrays[f"{part}_ids"] = labels, bias, ids
    return arrays


def as_task(arrays: Arrays, *, name: str, names: tuple[str, ...], key: str, reverse: bool, palette: str) -> Task:
    """Copy the arrays of `build_arrays` into a Task. `reverse`: the colour is the target, and there is no grey test."""
    colour_names = COLOUR_NAMES if palette == "jitter" else tuple(f"colour {label}" for label in range(10))
    grey, test = torch.from_numpy(np.array(arrays["grey_images"])), split_of(arrays, "test")
    return task_of(
        arrays,
        name=name,
        target_names=names,
        bias_names=colour_names,
        key=key,
        reverse=reverse,
        bias_colours=torch.from_numpy(np.array(arrays["colours"])),
        mean=MEAN,
        std=STD,
        extra_tests={} if reverse else {"grey": Split(grey, test.target, None, test.ids)},
    )


def nearest_colour(images: np.ndarray, palette: Tensor) -> np.ndarray:
    """The class colour nearest to that of each flat digit: an estimate of its bias, int64 [N].

    images : uint8 [N, 3, H, W]; palette : float [K, 3] in [0, 1]
    """
    colours = torch.from_numpy(images.max(axis=(2, 3)).astype(np.float32) / 255)
    return torch.cdist(colours, palette).argmin(1).numpy()


def load(settings: Mapping[str, Any], name: str, read: Read) -> Task:
    """The task that complete settings describe, built where it is not in the cache."""
    source, palette = source_of(settings, read), settings["palette"]
    made = (settings["skew"], settings["variance"], palette, settings["seed"])
    key = data_key(source, *made)
    arrays = cached(settings["cache_dir"], name, key, lambda: build_arrays(source, *made))
    return as_task(arrays, name=name, names=source.names, key=key, reverse=settings["reverse"], palette=palette)


def load_released(settings: Mapping[str, Any]) -> Task:
    """The published files of one variance as a task."""
    path = find_file(Path(settings["data_dir"] or "."), settings["variance"])
    found, limit = read_released(path), settings["limit"]
    colours = palette_colours("jitter", 0)
    arrays = {"colours": colours.numpy(), "grey_images": found["test_gray"][:, None].repeat(3, axis=1)}
    for part, count in (("train", limit), ("test", None if limit is None else limit // 6)):
        images = np.ascontiguousarray(found[f"{part}_image"][:count].transpose(0, 3, 1, 2))
        arrays |= {f"{part}_images": images, f"{part}_target": found[f"{part}_label"][:count]}
        arrays |= {f"{part}_ids": np.arange(len(images)), f"{part}_bias": nearest_colour(images, colours)}
    arrays["grey_images"] = arrays["grey_images"][: len(arrays["test_ids"])]
    key = key_of(builder="jitter released", version=VERSION, file=digest_of_file(path), limit=limit)
    reverse = settings["reverse"]
    return as_task(arrays, name="jitter_released", names=MNIST_NAMES, key=key, reverse=reverse, palette="jitter")


SPECS = (
    *on_sources(JITTER, load, "{}, flat, each in a colour near the one its class is tied to"),
    DatasetSpec(
        "jitter_released",
        "the published files of jitter_mnist, read from data_dir; colours named by the nearest mean",
        load_released,
        JITTER,
        has_skew=False,
    ),
)
