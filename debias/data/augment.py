"""Random augmentations of a whole batch, before normalisation; every draw comes from the generator passed in.

All take uint8 [B, C, H, W] (`crop_flip` and `flip` floats as well) and return the same shape and type, but for
`any_view`, which is of features.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4
# Share of the image and ratio of width to height of a random crop (DCWP's CelebA; torchvision's ratio).
CROP_SCALE = (0.7, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
# Values processed at a time on a CPU: what its cache holds.
_BLOCK = 2**19

Augmentation = Callable[[Tensor, torch.Generator | None], Tensor]


def flip(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Mirror left-right with probability 1/2. Draws: mirrored or not ([B])."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


def crop_flip(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Pad by 4 black pixels, crop back to size at a random place, mirror left-right with probability 1/2.

    Draws, in this order: vertical and horizontal offset (int [2, B] in 0..8), mirrored or not ([B]).
    """
    batch, channels, height, width = images.shape
    device = images.device
    offset = torch.randint(0, 2 * PADDING + 1, (2, batch), generator=generator, device=device)
    mirrored = torch.rand(batch, generator=generator, device=device) < 0.5

    padded = F.pad(images, (PADDING,) * 4)
    high, wide = padded.shape[2:]
    # Every run of `width` neighbouring pixels as one row of an overlapping view: a crop is then `height` row copies.
    runs = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    plane = torch.arange(batch * channels, device=device).view(batch, channels, 1) * (high * wide)
    line = (torch.arange(height, device=device) + offset[0].view(batch, 1, 1)) * wide
    first = (plane + line + offset[1].view(batch, 1, 1)).flatten()
    crops = runs.index_select(0, first).view(images.shape)
    return torch.where(mirrored.view(batch, 1, 1, 1), crops.flip(3), crops)


def resized_crop_flip(images: Tensor, generator: torch.Generator | None, aspect: float = 1.0) -> Tensor:
    """Crop 70 to 100 % of the image at a ratio of 3/4 to 4/3, resize it back, mirror with probability 1/2.

    Each image has a crop of its own, drawn as torchvision's RandomResizedCrop does, but at any fraction of a pixel;
    where no try of ten fits, the whole image is taken. Bilinear, in steps of 1/128 pixel: a crop is never larger than
    the result, so nothing is to be smoothed. Draws: area, ratio ([10, B] each), top, left, mirrored or not ([B] each).

    aspect : width to height of the images before they were stretched to what they are; a crop's ratio is meant there
    """
    batch, _, height, width = images.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=images.device)

    low, high = CROP_SCALE
    area = (low + (high - low) * uniform(_TRIES, batch)) * (height * width)
    ratio = torch.exp(math.log(CROP_RATIO[0]) + math.log(CROP_RATIO[1] / CROP_RATIO[0]) * uniform(_TRIES, batch))
    ratio = ratio * (width / height / aspect)
    tall, wide = (area / ratio).sqrt(), (area * ratio).sqrt()
    fits = (tall <= height) & (wide <= width)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    found = fits.any(0)
    tall = torch.where(found, tall.gather(0, first)[0], height)
    wide = torch.where(found, wide.gather(0, first)[0], width)
    top, left, mirrored = uniform(batch) * (height - tall), uniform(batch) * (width - wide), uniform(batch) < 0.5

    rows = _places(top, tall, height)
    columns = _places(left, wide, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    result = torch.empty_like(images)
    for part in blocks(images):
        tilted = _resample(images[part], rows[part]).transpose(2, 3).contiguous()
        result[part] = _resample(tilted, columns[part]).transpose(2, 3)
    return result


def blocks(images: Tensor) -> Iterator[slice]:
    """Slices of a batch that are worked on in turn: all of it, but on a CPU what its cache holds."""
    each = images.shape[1:].numel()
    step = max(1, _BLOCK // max(1, each)) if images.device.type == "cpu" else max(1, len(images))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def _places(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels spread over [start, start + length) comes from: float [B, size] in [0, size - 1]."""
    centre = torch.arange(size, device=start.device) + 0.5
    return (start[:, None] + centre * (length / size)[:, None] - 0.5).clamp_(0, size - 1)


def _resample(images: Tensor, place: Tensor) -> Tensor:
    """Rows of uint8 [B, C, H, W] read at fractional places [B, R]: uint8 [B, C, R, W], rounded to the nearest.

    Rows are gathered by plain memory copies, and mixed in whole numbers: 255 * 128 is the largest that int16 holds.
    """
    batch, channels, height, width = images.shape
    above = place.floor()
    weight = ((place - above) * 128).round_().to(torch.int16).view(batch, 1, -1, 1)
    above = above.long()
    lines = images.reshape(-1, width)
    plane = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * height

    def read(row: Tensor) -> Tensor:
        taken = lines.index_select(0, (plane + row.view(batch, 1, -1)).flatten())
        return taken.view(batch, channels, -1, width).to(torch.int16)

    upper, lower = read(above), read((above + 1).clamp_(max=height - 1))
    return upper.add_(lower.sub_(upper).mul_(weight).add_(64).bitwise_right_shift_(7)).to(torch.uint8)


# Of features alone: images have one view.
VIEWS = "views"


def any_view(features: Tensor, generator: torch.Generator | None) -> Tensor:
    """Of features of several views of each image, [B, V, D], those of one drawn view, [B, D]. Draws: the view ([B])."""
    count, views = features.shape[:2]
    if views == 1:
        return features[:, 0]
    drawn = torch.randint(views, (count,), generator=generator, device=features.device)
    place = drawn + views * torch.arange(count, device=features.device)
    return features.flatten(0, 1).index_select(0, place)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip,
    "crop_flip": crop_flip,
    "resized_crop_flip": resized_crop_flip,
    # CelebA's aligned images, stretched to squares.
    "portrait_crop_flip": partial(resized_crop_flip, aspect=178 / 218),
    "views": any_view,
}
