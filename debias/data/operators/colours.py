"""Operators on the values of pixels, wherever they are: brightness, contrast, colours, histograms."""

import torch
from torch import Tensor

# Below what a display can show of 256 steps: a channel without spread has no direction to stretch into.
_LEAST = 1e-4
# How far from the colour of most of an image, in units of full scale, a colour still follows it.
_NEAR = 0.2


def nothing(x: Tensor, z: Tensor) -> Tensor:
    """The images themselves: what an operator without effect measures."""
    return x


def mix(x: Tensor, z: Tensor) -> Tensor:
    """The average of image and donor."""
    return (x + z) / 2


def brightness(x: Tensor, z: Tensor) -> Tensor:
    """All channels of x times one factor, so that the mean is that of z."""
    return _scaled(x, z, (1, 2, 3))


def channel_means(x: Tensor, z: Tensor) -> Tensor:
    """Each channel of x times a factor of its own, so that its mean is that of z."""
    return _scaled(x, z, (2, 3))


def contrast(x: Tensor, z: Tensor) -> Tensor:
    """x stretched about the means of its channels by one factor, so that the overall spread is that of z."""
    mean = x.mean((2, 3), keepdim=True)
    own = (x - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    other = (z - z.mean((2, 3), keepdim=True)).square().mean((1, 2, 3), keepdim=True).sqrt()
    return (mean + (x - mean) * ((other + _LEAST) / (own + _LEAST))).clamp(0, 1)


def channel_stats(x: Tensor, z: Tensor) -> Tensor:
    """Each channel of x with the mean and the standard deviation of that of z (AdaIN, Huang & Belongie 2017)."""
    mean = z.mean((2, 3), keepdim=True)
    flat = x - x.mean((2, 3), keepdim=True)
    # Not `std`, which takes three times as long on a CPU.
    own, other = (part.square().mean((2, 3), keepdim=True).sqrt() for part in (flat, z - mean))
    return flat.mul_((other + _LEAST) / (own + _LEAST)).add_(mean).clamp_(0, 1)


def histogram(x: Tensor, z: Tensor) -> Tensor:
    """Each channel of x with the values of that of z, given out by rank; equal values of x stay equal.

    A value of x that several pixels have takes the middle one of their ranks: a black background stays one.
    """
    own, order = x.flatten(2).contiguous(), z.flatten(2).sort(dim=2).values
    ranks = own.sort(dim=2).values
    first, last = torch.searchsorted(ranks, own), torch.searchsorted(ranks, own, right=True) - 1
    # Mixed precision or a NaN aside, both are places within the channel.
    return order.gather(2, ((first + last) // 2).clamp(0, order.shape[2] - 1)).view_as(x)


def backdrop(x: Tensor, z: Tensor) -> Tensor:
    """x with the colour that fills most of z in place of its own, which is the median of each channel.

    Colours follow by how near they are to that one, so that what stands before a plain background stays as it is and
    its edges have no rim.
    """
    own, other = (part.flatten(2).sort(dim=2).values[..., part[0, 0].numel() // 2, None, None] for part in (x, z))
    near = (x - own).square().sum(1, keepdim=True).div(-2 * _NEAR**2).exp()
    return (x + near * (other - own)).clamp(0, 1)


def _scaled(x: Tensor, z: Tensor, over: tuple[int, ...]) -> Tensor:
    factor = (z.mean(over, keepdim=True) + _LEAST) / (x.mean(over, keepdim=True) + _LEAST)
    return (x * factor).clamp(0, 1)
