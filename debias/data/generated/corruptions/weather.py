"""Snow, frost and fog (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019)."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from debias.data.generated.corruptions.filters import along_both, motion, streak_kernel, zoom_matrix
from debias.data.generated.corruptions.frosting import textures
from debias.data.generated.corruptions.pixels import on_floats, to_bytes, to_floats

# Mean and standard deviation of the flakes, their enlargement, threshold, streak radius and deviation, image's share.
SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # weights of image and frost
FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))  # strength, decay of the roughness
GREY = (0.299, 0.587, 0.114)


@on_floats
def snow(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Streaks of flakes from two opposite directions on a whitened image."""
    mean, std, zoom, threshold, radius, sigma, share = SNOW[level - 1]
    n, side = len(images), images.shape[-1]
    flakes = torch.randn(n, 1, side, side, generator=generator) * std + mean
    if zoom > 1:
        flakes = along_both(flakes, zoom_matrix(side, zoom))
    flakes = to_floats(to_bytes(torch.where(flakes < threshold, 0, flakes)))
    degrees = torch.rand(n, generator=generator) * 90 - 135
    streaks = to_floats(to_bytes(motion(flakes, streak_kernel(radius, sigma), degrees)))
    grey = (images * torch.tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
    whitened = torch.maximum(images, grey * 1.5 + 0.5)
    return images.mul_(share).add_(whitened, alpha=1 - share) + (streaks + streaks.flip(2, 3))


def frost(images: Tensor, level: int, generator: Generator, panes: Sequence[Tensor] | None = None) -> Tensor:
    """a * image + b * a random piece of a frosted pane.

    panes : uint8 [3, H, W] each, higher and wider than the images; None: the made textures of `frosting`
    """
    laid: Sequence[Tensor] = list(textures()) if panes is None else panes
    own, other = FROST[level - 1]
    n, side = len(images), images.shape[-1]
    which = torch.randint(0, len(laid), (n,), generator=generator)
    corner = torch.rand(n, 2, generator=generator)
    reach = torch.arange(side)
    pieces = torch.empty_like(images)
    for number, pane in enumerate(laid):
        members = (which == number).nonzero().squeeze(1)
        room = torch.tensor(pane.shape[1:]) - side
        top, left = (corner[members] * room).long().unbind(1)
        rows, columns = (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None]
        pieces[members] = pane[:, rows, columns].transpose(0, 1)
    return to_bytes((images.float() * own + pieces.float() * other).div_(255))


@on_floats
def fog(images: Tensor, level: int, generator: Generator) -> Tensor:
    """(x + c * plasma) * max / (max + c), with the largest value of each image."""
    strength, decay = FOG[level - 1]
    brightest = images.amax((1, 2, 3), keepdim=True)
    haze = plasma(len(images), images.shape[-1], decay, generator)[:, None]
    return images.add_(haze, alpha=strength).mul_(brightest / (brightest + strength))


def plasma(n: int, side: int, decay: float, generator: Generator) -> Tensor:
    """Fractal clouds by diamonds and squares on a torus, each stretched to [0, 1]; float [n, side, side].

    The amplitude of what is added to a mean of four neighbours falls by decay ** 2 from one scale to the next, as the
    released generator multiplies a wobble by a uniform draw of the wobble's own range. `side` is a power of two.
    """
    clouds = torch.zeros(n, side, side)
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2
        corners, centres = clouds[:, ::step, ::step], clouds[:, half::step, half::step]
        count = side // step

        def around(total: Tensor, size: int = count, amplitude: float = wobble * wobble) -> Tensor:
            draw = torch.rand(n, size, size, generator=generator) * 2 - 1
            return total / 4 + amplitude * draw

        pairs = corners + corners.roll(-1, 1)
        centres.copy_(around(pairs + pairs.roll(-1, 2)))
        beside = corners + corners.roll(-1, 2) + centres + centres.roll(1, 1)
        below = corners + corners.roll(-1, 1) + centres + centres.roll(1, 2)
        clouds[:, ::step, half::step] = around(beside)
        clouds[:, half::step, ::step] = around(below)
        step, wobble = half, wobble / decay
    clouds -= clouds.amin((1, 2), keepdim=True)
    return clouds / clouds.amax((1, 2), keepdim=True)
