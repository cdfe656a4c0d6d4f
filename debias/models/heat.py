"""Where in an image a network finds what speaks for a class: class activation maps, and gradients in their place.

Both read maps [B, C, h, w] inside of the network, of which the last are the nearest to its answer, and coarse: 4 x 4 of
128 pixels. Each place of them has seen more of the image than its own square.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from debias.models.dual import Dual

# Along each side, of maps that are drawn. On features of EfficientNet-Lite0, images of 96 pixels with a mark in a
# corner: maps of 6 x 6 tell a model that reads the mark from one that does not, the last ones, of 3 x 3, do not.
FINE = 6
# By how much slopes of a linear network differ at most, as a share of the largest.
_EXACT = 1e-4
# Maps that are tried, from the last: a shortcut of a residual block may lead around some of them.
_TRIED = 24


class Contrast(nn.Module):
    """A network whose logits are taken beside their mean over classes: the part of them that softmax reads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] whose sum over classes is 0."""
        logits = self.network(images)
        return logits - logits.mean(1, keepdim=True)


def has_maps(network: nn.Module, images: Tensor) -> bool:
    """Whether the whole of a network's answer comes out of maps with more than one place. images : [B, C, H, W]"""
    return bool(_cuts(network, images))


def is_pooled_linear(network: nn.Module, images: Tensor) -> bool:
    """Whether a network ends in an average over all places of its last maps and a linear layer. images : [B, C, H, W]

    Looked at by one image.
    """
    cuts = _cuts(network, images)
    return bool(cuts) and _is_pooled_linear(network, cuts, images)


def class_activation(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Class activation maps (Zhou et al., CVPR 2016): what each place of the last maps adds to a logit.

    Parameters
    ----------
    network
        In evaluation mode; it ends in an average over places and a linear layer.
    images
        float [B, C, H, W], on the network's device.
    classes
        int64 [B], of which class the map is.

    Returns
    -------
    float [B, h, w], of either sign. Its sum over places is the logit less the bias (of a network that normalises what
    it has averaged, less the logit of maps of zeros).

    Raises
    ------
    ValueError
        A network of another form: see `gradient_activation`.
    """
    cuts = _cuts(network, images)
    if not cuts or not _is_pooled_linear(network, cuts, images):
        raise ValueError(f"{type(network).__name__} does not end in an average over places and a linear layer")
    maps, slopes, _ = _maps_and_slopes(network, cuts, images, classes)
    return (slopes * maps).sum(1)


def gradient_activation(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) on the last maps: float [B, h, w], 0 and above.

    Each channel counts by the mean slope of the logit over its places (eq. 1); what speaks against the class is cut off
    (eq. 2). Parameters are as of `class_activation`, of any network with maps.

    Raises
    ------
    ValueError
        A network without maps.
    """
    return _weighted(*_maps_and_slopes(network, _cuts_or_stop(network, images), images, classes)[:2])


class Heat(NamedTuple):
    """classes : int64 [B]; values : float [B, h, w], 0 and above; exact : whether they are class activation maps"""

    classes: Tensor
    values: Tensor
    exact: bool


def heat_of_answers(network: nn.Module, images: Tensor, places: int = FINE) -> Heat:
    """What speaks for the class that a network answers, on the last maps with so many places along each side.

    Where these are averaged and read by a linear layer it is the positive part of class activation maps, but for a
    factor; elsewhere it is Grad-CAM. Where no maps are as large the last ones are taken. Errors as of
    `gradient_activation`.
    """
    cuts = _cuts_or_stop(network, images, places)
    maps, slopes, classes = _maps_and_slopes(network, cuts, images)
    return Heat(classes, _weighted(maps, slopes), _is_pooled_linear(network, cuts, images))


def normalised(heat: Tensor) -> Tensor:
    """The positive part of heat [B, h, w], so that the largest value of each map is 1; of a map without any, 0."""
    positive = heat.clamp(min=0)
    most = positive.amax((1, 2), keepdim=True)
    return positive / torch.where(most > 0, most, 1)


def resized(heat: Tensor, size: tuple[int, int]) -> Tensor:
    """Heat [B, h, w] at the size of an image, [B, H, W]; in between it is interpolated linearly."""
    return interpolate(heat[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def share_inside(heat: Tensor, mask: Tensor) -> Tensor:
    """The part of the positive heat that lies in a region, float [B] in [0, 1]; NaN where there is no heat.

    A place of the map counts by the part of its square that the region covers, so heat is not smeared beyond the places
    that it was found at.

    heat : [B, h, w]; mask : bool [H, W], the region in an image
    """
    positive = heat.clamp(min=0)
    return (positive * covered(mask.to(heat.device), heat.shape[1:])).sum((1, 2)) / positive.sum((1, 2))


def covered(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Of each place of a map of some size, the part that a region bool [H, W] covers, float [h, w]."""
    height, width = size
    return adaptive_avg_pool2d(mask.float()[None, None], (height, width))[0, 0]


def _weighted(maps: Tensor, slopes: Tensor) -> Tensor:
    return torch.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1))


def _is_pooled_linear(network: nn.Module, cuts: Sequence[nn.Module], images: Tensor) -> bool:
    """Whether slopes by what some modules give are the same at every place, and whatever that is."""
    _, slopes, classes = _maps_and_slopes(network, cuts, images[:1])
    _, without, _ = _maps_and_slopes(network, cuts, images[:1], classes, scale=0.0)
    apart = torch.maximum((slopes - without).abs().amax(), (slopes - slopes[..., :1, :1]).abs().amax())
    return bool(apart <= _EXACT * slopes.abs().amax())


def _cuts_or_stop(network: nn.Module, images: Tensor, places: int = 2) -> Sequence[nn.Module]:
    cuts = _cuts(network, images, places)
    if not cuts:
        raise ValueError(f"{type(network).__name__} has no maps")
    return cuts


def _cuts(network: nn.Module, images: Tensor, places: int = 2) -> Sequence[nn.Module]:
    """The module that gives the last maps of so many places along each side, or else the last of any; of two encoders
    side by side one of each. Empty where no maps have the whole answer come out of them."""
    candidates = _candidates(network, images[:1])
    large = [modules for modules, least in candidates if least >= places]
    for modules in [*large[:_TRIED], *[modules for modules, _ in candidates][:_TRIED]]:
        # Another image makes no difference where nothing leads around these maps.
        logits, _ = _cut(network, modules, torch.cat([images[:1], torch.zeros_like(images[:1])]), scale=0.0)
        if torch.allclose(logits[0], logits[1], rtol=1e-4, atol=1e-6):
            return modules
    return ()


def _candidates(network: nn.Module, image: Tensor) -> list[tuple[list[nn.Module], int]]:
    """Modules that give maps, from the last, and how many places these have along the shorter side."""
    encoders: list[nn.Module] = []
    for one in network.modules():
        if isinstance(one, Dual):
            encoders += [one.target, one.bias]
    encoders = encoders or [network]
    found: list[list[tuple[nn.Module, int]]] = [[] for _ in encoders]
    convolved = [False] * len(encoders)
    number_of = {module: number for number, part in enumerate(encoders) for module in part.modules()}

    def keep(module: nn.Module, given: object, output: object) -> None:
        number = number_of[module]
        convolved[number] |= isinstance(module, nn.Conv2d)
        # Before the first convolution there is but the image.
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1 and convolved[number]:
            found[number].append((module, min(output.shape[2:])))

    hooks = [module.register_forward_hook(keep) for module in number_of]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    # A layer without weights that is used at several places is none of them.
    times = Counter(module for own in found for module, _ in own)
    last_first = [[one for one in reversed(own) if times[one[0]] == 1] for own in found]
    return [
        ([module for module, _ in level], min(least for _, least in level)) for level in zip(*last_first, strict=False)
    ]


def _maps_and_slopes(
    network: nn.Module, cuts: Sequence[nn.Module], images: Tensor, classes: Tensor | None = None, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps times `scale`, [B, C, h, w], the slopes by them of each image's logit of its class, and the class.

    classes : int64 [B]; None: those that the network answers
    """
    logits, maps = _cut(network, cuts, images, scale)
    classes = logits.argmax(1) if classes is None else classes
    with torch.enable_grad():
        score = logits.gather(1, classes[:, None]).sum()
    slopes = torch.autograd.grad(score, maps)
    return torch.cat([one.detach() for one in maps], 1), torch.cat(slopes, 1), classes


def _cut(network: nn.Module, cuts: Sequence[nn.Module], images: Tensor, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Logits [B, classes], and what some modules give, times `scale`, of which the logits are then made."""
    maps: list[Tensor] = []

    def cut(module: nn.Module, given: object, output: Tensor) -> Tensor:
        # What comes before needs no gradient and so no memory for one.
        torch.set_grad_enabled(True)
        maps.append((scale * output.detach()).requires_grad_())
        # A copy, as the next layer may write into it.
        return maps[-1].clone()

    hooks = [module.register_forward_hook(cut) for module in cuts]
    try:
        with torch.no_grad():
            return network(images), maps
    finally:
        for hook in hooks:
            hook.remove()
