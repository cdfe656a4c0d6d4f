"""Drops of water or mud on the lens (CIFAR-10-C, Hendrycks & Dietterich, ICLR 2019).

Water takes its relief from the distance to the drops' edges, found as in OpenCV: Canny's edges, distances, a spread
histogram, an embossing kernel. All of it works on the whole batch.
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from debias.data.generated.corruptions.filters import along_both, gaussian_matrix
from debias.data.generated.corruptions.pixels import on_floats

# Mean, standard deviation and smoothing of the liquid, its threshold, intensity or smoothing of the mud, mud?
SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
TURQUOISE, BROWN = (175, 238, 238), (63, 42, 20)
WEAK, STRONG = 50, 150  # thresholds of Canny's gradient
FARTHEST = 20
EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))


@on_floats
def spatter(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Smoothed noise above a threshold is liquid: added as water, or covering as mud."""
    mean, std, sigma, threshold, strength, is_mud = SPATTER[level - 1]
    n, side = len(images), images.shape[-1]
    noise = torch.randn(n, 1, side, side, generator=generator) * std + mean
    liquid = along_both(noise, gaussian_matrix(side, sigma))
    if is_mud:
        cover = along_both((liquid > threshold).float(), gaussian_matrix(side, strength))
        cover = torch.where(cover < 0.8, 0, cover)
        return images * (1 - cover) + _colour(BROWN) * cover
    liquid = torch.where(liquid < threshold, 0, liquid).mul_(255).floor_().clamp_(0, 255)
    depth = liquid * _relief(liquid)
    deepest = depth.amax((1, 2, 3), keepdim=True)
    # An image without a drop stays as it is.
    return images + torch.where(deepest > 0, depth / deepest * strength, 0) * _colour(TURQUOISE)


def _colour(values: tuple[int, int, int]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1) / 255


def _relief(liquid: Tensor) -> Tensor:
    """Height of the water by the distance from its edges, in whole levels of 0..255, [N, 1, H, W]."""
    near = edge_distance(edges(liquid)).clamp_(max=FARTHEST)
    spread = equalised(_box(near).floor_())
    kernel = torch.tensor(EMBOSS)[None, None]
    embossed = conv2d(pad(spread, (1,) * 4, mode="reflect"), kernel).clamp_(0, 255)
    return _box(embossed).round_()


def _box(planes: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels, mirrored about edge pixels."""
    return avg_pool2d(pad(planes, (1,) * 4, mode="reflect"), 3, stride=1)


def edges(planes: Tensor) -> Tensor:
    """Canny's edges of [N, 1, H, W] in whole levels: Sobel, gradient |dx| + |dy|, ridges alone, hysteresis; bool."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slopes = conv2d(pad(planes, (1,) * 4, mode="replicate"), torch.stack([sobel, sobel.t()])[:, None])
    dx, dy = slopes[:, :1], slopes[:, 1:]
    size = dx.abs() + dy.abs()
    around = pad(size, (1,) * 4)
    height, width = size.shape[2:]

    def at(down: int, right: int) -> Tensor:
        return around[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    # Nearly horizontal, nearly vertical or diagonal: tan 22.5 and 67.5 degrees part them.
    flat, steep = dy.abs() < 0.41421356 * dx.abs(), dy.abs() > 2.41421356 * dx.abs()
    across = (size > at(0, -1)) & (size >= at(0, 1))
    along = (size > at(-1, 0)) & (size >= at(1, 0))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    diagonal = torch.where((dx < 0) ^ (dy < 0), rising, falling)
    ridge = torch.where(flat, across, torch.where(steep, along, diagonal))
    weak = (ridge & (size > WEAK)).float()
    found = (ridge & (size > STRONG)).float()
    # Weak ridges count where a chain of them reaches a strong one.
    while True:
        grown = max_pool2d(found, 3, stride=1, padding=1) * weak
        if torch.equal(grown, found):
            return found.bool()
        found = grown


def edge_distance(edge: Tensor) -> Tensor:
    """Euclidean distance of every pixel to the nearest edge pixel, [N, 1, H, W]; huge where there is none."""
    height, width = edge.shape[2:]
    line = torch.arange(height, dtype=torch.float32).view(-1, 1)
    far = 1e4
    above = torch.where(edge, line, -far).cummax(2).values
    below = torch.where(edge, line, far).flip(2).cummin(2).values.flip(2)
    squared = torch.minimum(line - above, below - line).square_()
    best = torch.full_like(squared, far * far)
    column = torch.arange(width, dtype=torch.float32)
    for other in range(width):
        best = torch.minimum(best, squared[..., other : other + 1] + (column - other) ** 2)
    return best.sqrt_()


def equalised(planes: Tensor) -> Tensor:
    """Whole levels 0..FARTHEST of each image spread over 0..255 so that their histogram is flat; one level stays."""
    flat = planes.flatten(1)
    levels = torch.arange(FARTHEST + 1).view(-1, 1)
    below = torch.stack([(flat <= level).sum(1) for level in levels.flatten().tolist()], 1).float()
    # Pixels of the lowest level that an image has.
    first = torch.where(below > 0, below, below[:, -1:]).amin(1, keepdim=True)
    total = below[:, -1:]
    table = ((below - first).clamp_(min=0) * (255 / (total - first).clamp(min=1))).round_()
    table = torch.where(total == first, levels.flatten().float(), table)
    return table.gather(1, flat.long()).view(planes.shape)
