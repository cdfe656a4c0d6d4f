"""JPEG compression of a batch without a file: the baseline method with 4:2:0 chroma, as Pillow and libjpeg do it.

Source: ITU-T T.81 (1992), tables K.1 and K.2, and JFIF's colour transform.
"""

import math
from functools import lru_cache

import torch
from torch import Generator, Tensor

QUALITY = (80, 65, 58, 50, 40)
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(images: Tensor, level: int, generator: Generator) -> Tensor:
    """Compressed and decompressed at the level's quality. Sides must be multiples of 16."""
    return compress(images, QUALITY[level - 1])


def compress(images: Tensor, quality: int) -> Tensor:
    """uint8 [N, 3, H, W] -> what is left of it at a quality of 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luminance, chrominance = (
        ((torch.tensor(table) * scale + 50) // 100).clamp(1, 255).float() for table in (LUMINANCE, CHROMINANCE)
    )
    ycc = _mix(images.float(), TO_YCC)
    ycc[:, 1:] += 128
    ycc = ycc.round_()
    grey = _quantised(ycc[:, :1], luminance)
    colour = _enlarged(_quantised(_halved(ycc[:, 1:]), chrominance)) - 128
    return _mix(torch.cat([grey, colour], 1), TO_RGB).round_().clamp_(0, 255).to(torch.uint8)


def _mix(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    n, channels, height, width = images.shape
    return torch.matmul(torch.tensor(matrix), images.reshape(n, channels, -1)).view(n, -1, height, width)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Each 8 x 8 block to whole multiples of the table's frequencies and back, in whole levels."""
    n, channels, height, width = planes.shape
    cosines = _cosines()
    blocks = (planes - 128).view(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4).contiguous()
    # libjpeg computes in whole numbers: quarters after the first axis, eighths of a wave after the second. Images that
    # were JPEG files before have waves right between two steps, where this decides.
    rows = _whole(blocks @ (4 * cosines).t())
    waves = _whole(rows.transpose(-1, -2).contiguous() @ (cosines / 4).t())
    # The waves lie transposed, and so must the table.
    steps = table.t()
    # Halves go away from zero.
    waves = (waves.abs() / (8 * steps) + 0.5).floor_().mul_(steps).copysign_(waves)
    columns = _whole(waves @ (4 * cosines))
    blocks = _whole(columns.transpose(-1, -2).contiguous() @ (cosines / 32))
    return (blocks.transpose(3, 4).reshape(planes.shape) + 128).clamp_(0, 255)


def _whole(values: Tensor) -> Tensor:
    """The nearest whole numbers, halves upwards. In place."""
    return values.add_(0.5).floor_()


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The cosine transform of eight values, scaled by sqrt(8), [frequency, place]."""
    frequency, place = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)
    basis = torch.cos((2 * place + 1) * frequency * math.pi / 16) * math.sqrt(2)
    basis[0] = 1
    return basis.float()


def _halved(planes: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels in whole levels; halves go down in even columns and up in odd ones, as libjpeg's."""
    n, channels, height, width = planes.shape
    total = planes.view(n, channels, height // 2, 2, width // 2, 2).sum((3, 5))
    bias = torch.arange(width // 2) % 2 + 1
    return ((total + bias) / 4).floor_()


def _enlarged(planes: Tensor) -> Tensor:
    """Twice the size: three parts of the pixel and one of the next nearest, along each axis."""
    matrix = _triangle(planes.shape[-1])
    down = _triangle(planes.shape[-2])
    high = (planes.transpose(2, 3) @ down.t()).transpose(2, 3) @ matrix.t()
    # Halves go up in even columns and down in odd ones: + 8/16 and + 7/16.
    bias = (8 - torch.arange(high.shape[-1]) % 2) / 16
    return (high + bias).floor_()


@lru_cache(maxsize=8)
def _triangle(side: int) -> Tensor:
    near = torch.arange(2 * side) // 2
    far = (near + torch.where(torch.arange(2 * side) % 2 == 0, -1, 1)).clamp(0, side - 1)
    matrix = torch.zeros(2 * side, side)
    rows = torch.arange(2 * side)
    matrix[rows, near] += 0.75
    matrix[rows, far] += 0.25
    return matrix
