"""Operators on frequencies: amplitudes of bands, fine detail, sharpness, noise, compression."""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

_LEAST = 1e-3
_MOST = 20.0  # by how much sharpening may multiply an amplitude: what is gone cannot be brought back
BLOCK = 8  # of JPEG
# JPEG's own: brightness and two colour differences. The offset of the latter does not matter here.
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def amplitudes(x: Tensor, z: Tensor, low: float = 0.0, high: float = 2.0) -> Tensor:
    """The spectrum of x with the amplitudes of z at frequencies in [low, high) and its own phases throughout.

    Frequencies are shares of the highest one along a side (Nyquist's); those along a diagonal go up to 1.42.
    """
    own, other = torch.fft.rfft2(x), torch.fft.rfft2(z)
    radius = _radius(x)
    within = (radius >= low) & (radius < high)
    mixed = torch.where(within, torch.polar(other.abs(), own.angle()), own)
    return torch.fft.irfft2(mixed, s=x.shape[2:]).clamp(0, 1)


def detail(x: Tensor, z: Tensor) -> Tensor:
    """The coarse image of x with the fine detail of z."""
    return (_smooth(x) + z - _smooth(z)).clamp(0, 1)


def sharpness(x: Tensor, z: Tensor) -> Tensor:
    """The spectrum of x falling off with the frequency as that of z does; means and coarse contrast stay those of x.

    What is compared is the mean amplitude at each distance from frequency 0, relative to that of the lowest ones.
    """
    own = torch.fft.rfft2(x)
    radius = _radius(x)
    # A dozen rings or so: each is a mean over enough frequencies to be the same for other content.
    ring = (radius * 12).long().clamp(max=17)
    # Not `one_hot`, which looks at its values on the host.
    member = (ring.flatten()[:, None] == torch.arange(18, device=x.device)).to(x.dtype)
    member = member / member.sum(0).clamp(min=1)
    ratio = (_rings(torch.fft.rfft2(z), member) + _LEAST) / (_rings(own, member) + _LEAST)
    lowest = 2  # rings that are coarse contrast, not sharpness
    ratio = (ratio / ratio[:, :lowest].mean(1, keepdim=True)).clamp(max=_MOST)
    ratio[:, :lowest] = 1
    return torch.fft.irfft2(own * ratio[:, ring][:, None], s=x.shape[2:]).clamp(0, 1)


def sharpness_and_detail(x: Tensor, z: Tensor) -> Tensor:
    """`sharpness`, and then the fine detail of z.

    A blurred x that is only sharpened shows that it was blurred: its finest frequencies are amplified rounding errors.
    """
    return detail(sharpness(x, z), z)


def noise(x: Tensor, z: Tensor) -> Tensor:
    """x without its noise and with that of z.

    Noise is what smoothing takes away, cut off at three times the level that the median of a Laplacian tells
    (Immerkaer 1996): above it are edges.
    """
    return (x - small(x) + small(z)).clamp(0, 1)


def noise_and_detail(x: Tensor, z: Tensor) -> Tensor:
    """`noise`, and then the fine detail of z: what smoothing leaves of the noise of x goes with it."""
    return detail(noise(x, z), z)


def compression(x: Tensor, z: Tensor) -> Tensor:
    """The blocks of x with the values that the frequencies of JPEG's blocks take in z, given out by rank.

    A coefficient that compression set to 0 in most blocks of z is set to 0 in most blocks of x, and the other way
    round. The mean of a block stays that of x, and so does what lies beyond the last whole block.
    """
    height, width = (side // BLOCK * BLOCK for side in x.shape[2:])
    if not height or not width:
        return x
    own, other = coefficients(x[..., :height, :width]), coefficients(z[..., :height, :width])
    ranks = own.argsort(dim=2, stable=True).argsort(dim=2)
    mixed = other.sort(dim=2).values.gather(2, ranks)
    mixed[..., 0] = own[..., 0]  # the mean of each block
    done = x.clone()
    done[..., :height, :width] = _from_coefficients(mixed, height, width)
    return done.clamp(0, 1)


def _radius(x: Tensor) -> Tensor:
    """Of each frequency of `rfft2`, as a share of the highest along a side; [H, W // 2 + 1]."""
    down = torch.fft.fftfreq(x.shape[2], device=x.device, dtype=x.dtype)
    across = torch.fft.rfftfreq(x.shape[3], device=x.device, dtype=x.dtype)
    return 2 * torch.hypot(down[:, None], across[None])


def _rings(spectrum: Tensor, member: Tensor) -> Tensor:
    """Mean amplitude over channels and rings, [B, rings], as a share of the largest that a pixel could make."""
    size = math.sqrt(spectrum.shape[2] * spectrum.shape[3] * 2)
    return spectrum.abs().mean(1).flatten(1) @ member / size


def _smooth(x: Tensor) -> Tensor:
    """Gaussian smoothing; its width goes with the side of the image, one pixel at 28."""
    return _filtered(x, partial(_gaussian, max(0.8, min(x.shape[2:]) / 28)))


def small(x: Tensor) -> Tensor:
    """What is finer and weaker than edges, float [B, C, H, W] about 0: what `noise` moves."""
    level = rough(x).abs().flatten(2).median(2).values[..., None, None] / (0.6745 * 6)
    residual = x - _filtered(x, _binomial)
    return torch.maximum(torch.minimum(residual, 3 * level), -3 * level)


def rough(x: Tensor) -> Tensor:
    """Second differences down of those across, in which smooth content is about 0; [B, C, H, W]."""
    return _filtered(x, _laplacian)


def _filtered(x: Tensor, make: Callable[[], Tensor]) -> Tensor:
    """x convolved with a kernel along both sides, borders repeated."""
    kernel = _constant(make, x)
    half, channels = len(kernel) // 2, x.shape[1]
    padded = pad(x, (half, half, half, half), mode="replicate")
    rows = conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def _gaussian(sigma: float) -> Tensor:
    half = math.ceil(2.5 * sigma)
    place = torch.arange(-half, half + 1, dtype=torch.float32)
    weight = torch.exp(-(place**2) / (2 * sigma**2))
    return weight / weight.sum()


def _laplacian() -> Tensor:
    return torch.tensor([1.0, -2.0, 1.0])


def _binomial() -> Tensor:
    return torch.tensor([0.25, 0.5, 0.25])


def _constant(make: Callable[[], Tensor], x: Tensor) -> Tensor:
    """What `make` makes, on the device of x and of its type. It is copied there once: a step that is recorded as a CUDA
    graph cannot copy from the host."""
    part = (make.func, make.args) if isinstance(make, partial) else (make, ())
    return _kept(*part, x.device, x.dtype)


@cache
def _kept(make: Callable[..., Tensor], given: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # Also for use outside of an evaluation.
    with torch.inference_mode(False):
        return make(*given).to(device, dtype)


def _ycc() -> Tensor:
    return torch.tensor(_YCC)


def _from_ycc() -> Tensor:
    return torch.linalg.inv(torch.tensor(_YCC))


def _cosines() -> Tensor:
    """The orthonormal cosine transform of a block's side, [frequency, place]."""
    place, frequency = torch.arange(BLOCK), torch.arange(BLOCK)[:, None]
    matrix = torch.cos(math.pi * (2 * place + 1) * frequency / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def coefficients(x: Tensor) -> Tensor:
    """Cosine coefficients by block, [B, C, blocks, 64]; three channels as brightness and colour differences."""
    if x.shape[1] == 3:
        x = torch.einsum("dc,bchw->bdhw", _constant(_ycc, x), x)
    blocks = x.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
    cosines = _constant(_cosines, x)
    return (cosines @ blocks @ cosines.T).flatten(2, 3).flatten(3)


def _from_coefficients(values: Tensor, height: int, width: int) -> Tensor:
    count, channels = values.shape[:2]
    cosines = _constant(_cosines, values)
    blocks = cosines.T @ values.view(count, channels, height // BLOCK, width // BLOCK, BLOCK, BLOCK) @ cosines
    x = blocks.transpose(3, 4).reshape(count, channels, height, width)
    if channels == 3:
        x = torch.einsum("cd,bdhw->bchw", _constant(_from_ycc, x), x)
    return x
