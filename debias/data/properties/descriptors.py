"""Properties of images as numbers, each of which an operator may move: a new one is a function and a line here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from debias.data.operators import OPERATORS, places, spectrum

_BLOCK = 256
_LEAST = 1e-4
# Bounds of the rings of a spectrum, as shares of the highest frequency along a side.
_RINGS = (0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.42)
_MIDDLE, _FINE = (0.2, 0.5), ((0.5, 0.75), (0.75, 2.0))
# Coefficients of a block by rows, and what is next to zero: one step of 8 bits, several, and what strong compression
# drops.
_COEFFICIENTS, _NEXT_TO_ZERO = (1, 8, 16, 32, 64), (0.004, 0.012, 0.04)
_SMOOTH = 4  # pixels along the side of a block that is smooth but for noise
_FAINT = 5e-4  # of second differences: noise of about 1.4 of 255 grey levels
_CELL = 8  # places along the side of a cell of the grid


@dataclass(frozen=True)
class Descriptor:
    """One property of an image as a few numbers.

    name : in the user's words; measure : images float [B, C, H, W] in [0, 1] to float [B, 1 or more]
    operator : that moves the property from image to image, or ""; colour : whether it takes three channels
    along : properties that these numbers take along, and which are the better name where they tell nearly as much
    """

    name: str
    measure: Callable[[Tensor], Tensor]
    operator: str = ""
    colour: bool = False
    along: tuple[str, ...] = ()


def image_properties(images: Tensor, grey: bool = False) -> dict[str, Tensor]:
    """Of uint8 images [N, C, H, W]: float [N, 1 or more] by name of the property.

    Those of colours are left out of images with one channel and where `grey` says that no image has a colour.
    """
    coloured = images.shape[1] == 3 and not grey
    known = [one for one in DESCRIPTORS.values() if coloured or not one.colour]
    found: dict[str, list[Tensor]] = {one.name: [] for one in known}
    for part in images.split(_BLOCK):
        x = part.float() / 255
        for one in known:
            value = one.measure(x)
            found[one.name].append(value if value.ndim == 2 else value[:, None])
    return {name: torch.cat(values) for name, values in found.items()}


def brightness(x: Tensor) -> Tensor:
    """Mean of all values."""
    return x.mean((1, 2, 3))


def contrast(x: Tensor) -> Tensor:
    """Standard deviation of the mean over channels."""
    return x.mean(1).flatten(1).std(1)


def mean_colour(x: Tensor) -> Tensor:
    """Mean of each channel."""
    return x.mean((2, 3))


def colour_spread(x: Tensor) -> Tensor:
    """Mean and standard deviation of each channel."""
    return torch.cat([x.mean((2, 3)), x.flatten(2).std(2)], 1)


def colour_histogram(x: Tensor) -> Tensor:
    """Seven quantiles of each channel."""
    levels = torch.linspace(0.05, 0.95, 7, device=x.device)
    return torch.quantile(x.flatten(2), levels, dim=2).permute(1, 0, 2).flatten(1)


def colourfulness(x: Tensor) -> Tensor:
    """How far from grey (Hasler and Suesstrunk, 2003)."""
    red_green, yellow_blue = x[:, 0] - x[:, 1], (x[:, 0] + x[:, 1]) / 2 - x[:, 2]
    pair = torch.stack([red_green, yellow_blue]).flatten(2)
    return pair.std(2).square().sum(0).sqrt() + 0.3 * pair.mean(2).square().sum(0).sqrt()


def sharpness(x: Tensor) -> Tensor:
    """Energy of two fine bands of the spectrum beside that of its middle, as logarithms.

    Beside the middle and not beside everything: of natural images it then depends little on what they show. Two bands,
    as a weak blur takes the finest frequencies alone, of which a strong one leaves nothing to tell strengths by.
    """
    energy = _energy(x)
    middle = _band(energy, *_MIDDLE)
    return torch.stack([_band(energy, *fine) - middle for fine in _FINE], 1)


def rings(x: Tensor) -> Tensor:
    """Energy of each ring of the spectrum, as a logarithm."""
    energy = _energy(x)
    return torch.stack([_band(energy, low, high) for low, high in pairwise(_RINGS)], 1)


def noise(x: Tensor) -> Tensor:
    """Energy of second differences in the smoothest tenth of small blocks, as a logarithm.

    Content leaves some blocks smooth in most images, and noise none. What is below the noise of a good photograph is
    all the same: it would tell how sharp the image is.
    """
    rough = spectrum.rough(x).square().mean(1, keepdim=True)
    blocks = avg_pool2d(rough, min(_SMOOTH, *x.shape[2:]))
    return torch.quantile(blocks.flatten(1), 0.1, dim=1).clamp(min=_FAINT).log()


def compression(x: Tensor) -> Tensor:
    """Of the coefficients of JPEG's blocks, coarse to fine: shares that are next to zero, by three bounds.

    Of brightness, and of the colour differences, of which compression leaves less.
    """
    height, width = (side // spectrum.BLOCK * spectrum.BLOCK for side in x.shape[2:])
    if not height or not width:
        return x.new_zeros(len(x), 1)
    size = spectrum.coefficients(x[..., :height, :width]).abs()
    parts = [size[:, :1], size[:, 1:]] if x.shape[1] == 3 else [size]
    return torch.stack(
        [
            (part[..., low:high] < bound).float().mean((1, 2, 3))
            for part in parts
            for bound in _NEXT_TO_ZERO
            for low, high in pairwise(_COEFFICIENTS)
        ],
        1,
    )


def flat_pixels(x: Tensor) -> Tensor:
    """Share of pixels that differ little from their neighbours."""
    grey = x.mean(1)
    rough = grey.diff(dim=1)[:, :, :-1].square() + grey.diff(dim=2)[:, :-1, :].square()
    return (rough < 1e-4).float().mean((1, 2))


def border(x: Tensor) -> Tensor:
    """Mean and standard deviation of each channel in what `data.operators.places.border` moves."""
    inside = places.inner(x)
    edge = x[..., ~inside]
    return torch.cat([edge.mean(2), edge.std(2)], 1)


def border_colour(x: Tensor) -> Tensor:
    """Median of each channel along the outermost sixteenth."""
    wide = max(1, min(x.shape[2:]) // 16)
    sides = (x[:, :, :wide], x[:, :, -wide:], x[..., :wide], x[..., -wide:])
    return torch.cat([side.flatten(2) for side in sides], 2).median(2).values


def shown_size(x: Tensor) -> Tensor:
    """Share of pixels that stand out from the colour of the border."""
    return (_away(x) > 0.15).float().mean((1, 2))


def shown_aspect(x: Tensor) -> Tensor:
    """How wide what stands out from the border is beside its height, as a logarithm."""
    away = _away(x)
    return torch.log((_extent(away.mean(1)) + 1e-3) / (_extent(away.mean(2)) + 1e-3))


def cell(x: Tensor, row: int, column: int) -> Tensor:
    """A cell of the grid of three by three: its mean colour, and its grey values averaged down to eight by eight."""
    down, across = places.cell_at(x, row, column)
    own = x[..., down, across]
    return torch.cat([own.mean((2, 3)), adaptive_avg_pool2d(own.mean(1, keepdim=True), _CELL).flatten(1)], 1)


def _away(x: Tensor) -> Tensor:
    return (x - border_colour(x)[..., None, None]).abs().amax(1)


def _extent(profile: Tensor) -> Tensor:
    """Spread of a profile [N, L] about its middle, as a share of its length; [N]."""
    place = torch.linspace(0, 1, profile.shape[1], device=profile.device)
    weight = profile / profile.sum(1, keepdim=True).clamp(min=1e-6)
    middle = (weight * place).sum(1, keepdim=True)
    return (weight * (place - middle).square()).sum(1).sqrt()


def _energy(x: Tensor) -> Tensor:
    """Squared coefficients of the cosine transform, all channels together, [B, H, W].

    Not the Fourier transform, to which an image whose left and right sides differ has a sharp edge there.
    """
    down, across = (_cosines(side).to(x) for side in x.shape[2:])
    return (down @ x @ across.T).square().sum(1)


def _band(energy: Tensor, low: float, high: float) -> Tensor:
    height, width = energy.shape[1:]
    down, across = (torch.arange(side, device=energy.device) / side for side in (height, width))
    radius = torch.hypot(down[:, None], across[None])
    return ((energy * ((radius >= low) & (radius < high))).sum((1, 2)) + _LEAST).log()


@cache
def _cosines(side: int) -> Tensor:
    """The orthonormal cosine transform along a side, [frequency, place]."""
    place, frequency = torch.arange(side), torch.arange(side)[:, None]
    matrix = torch.cos(math.pi * (2 * place + 1) * frequency / (2 * side)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


DESCRIPTORS: dict[str, Descriptor] = {
    one.name: one
    for one in (
        Descriptor("brightness", brightness, "brightness"),
        Descriptor("contrast", contrast, "contrast"),
        Descriptor("mean colour", mean_colour, "channel_means", True),
        Descriptor("mean and spread of colours", colour_spread, "channel_stats", True),
        Descriptor("colour histogram", colour_histogram, "histogram", True),
        Descriptor("colourfulness", colourfulness, colour=True),
        Descriptor("sharpness", sharpness, "blur"),
        Descriptor("spectrum", rings, "amplitude_all"),
        Descriptor("noise", noise, "noise"),
        # What blur takes away is next to zero in blocks too, and what noise adds is not.
        Descriptor("compression", compression, "compression", along=("sharpness", "noise")),
        Descriptor("share of flat pixels", flat_pixels),
        Descriptor("border", border, "border"),
        Descriptor("border colour", border_colour, "border"),
        Descriptor("size of what is shown", shown_size, "size"),
        Descriptor("aspect of what is shown", shown_aspect, "aspect"),
        *(
            Descriptor(
                OPERATORS[f"patch_{row}_{column}"].where, partial(cell, row=row, column=column), f"patch_{row}_{column}"
            )
            for row in range(places.CELLS)
            for column in range(places.CELLS)
        ),
    )
}
