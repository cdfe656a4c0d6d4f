"""A pretrained network in two parts: up to its last block, which stays as it is, and that block, which is trained.

What comes out of the first part is computed once for each image (`features`), as features of the whole network are; the
second part is the network that a method trains on them. So the last block is fine-tuned for the price of that block.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.efficientnet import EfficientNetLite0
from debias.models.onfeatures import EARLY, TAKES
from debias.models.resnet import ResNet18, ResNet50


class Divisible(Protocol):
    """A network that can be computed in two steps; `LAST` are the names that its last block's tensors begin with."""

    LAST: tuple[str, ...]
    features: int

    def until_last(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the first layers, and the input of the last block, [B, C, h, w]."""

    def last(self, maps: Tensor) -> Tensor:
        """Features [B, features] of the input of the last block."""


class Part(NamedTuple):
    """build : the whole network; channels : of the input of its last block; whole : its name among pretrained ones"""

    build: Callable[[], Backbone]
    channels: int
    whole: str


# By the name of the network that is trained.
PARTS: dict[str, Part] = {
    "efficientnet_lite0_last": Part(EfficientNetLite0, 192, "efficientnet_lite0"),
    "resnet18_last": Part(ResNet18, 512, "resnet18"),
    "resnet50_last": Part(ResNet50, 2048, "resnet50"),
}


class UntilLast(Backbone):
    """A network without its last block: the values of that block's input, [B, C h w], of images of one size.

    Parameters
    ----------
    name
        Of the network, in `PARTS`.
    size
        Side of the images.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.whole = _without(PARTS[name].build(), last=True).eval()
        with torch.no_grad():
            maps = self.until_last(torch.zeros(1, 3, size, size, device=next(self.parameters()).device))[1]
        self.features = math.prod(maps.shape[1:])

    def until_last(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the first layers, and the input of the last block, [B, C, h, w]."""
        return cast(Divisible, self.whole).until_last(images)

    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same, the second as rows [B, C h w]."""
        early, maps = self.until_last(images)
        return early, maps.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C h w] of images [B, 3, size, size]."""
        return self.early_and_late(images)[1]


class LastBlock(Backbone):
    """The last block of a network, and what follows it, on features that `UntilLast` made (and `EARLY` behind them).

    Parameters
    ----------
    name
        Of the network, in `PARTS`.
    shape
        (D, 1, 1) of the features.

    Raises
    ------
    UserError
        They are not those of that network.
    """

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        super().__init__()
        part = PARTS[name]
        places = (shape[0] - EARLY) / part.channels
        self._maps = (part.channels, math.isqrt(max(0, int(places))))
        if places < 1 or self._maps[1] ** 2 != places or shape[1:] != (1, 1):
            raise UserError(f"{name} is the last block of a network, and takes features={TAKES[name]}")
        self.whole = _without(part.build(), last=False)
        self.features = cast(Divisible, self.whole).features

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of [B, D, 1, 1]."""
        channels, side = self._maps
        rows = images.flatten(1)[:, :-EARLY]
        return cast(Divisible, self.whole).last(rows.view(-1, channels, side, side))


def _without(network: Backbone, last: bool) -> Backbone:
    """A network with nothing in place of its last block, or of everything else."""
    names = cast(Divisible, network).LAST
    for name, module in list(network.named_modules()):
        held = any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
        if name and held and name.startswith(names) is last:
            network.set_submodule(name, nn.Identity())
    return network


def parted(name: str, last: bool, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors of a whole network those of one of its parts, by the names that they have there."""
    with torch.device("meta"):
        names = cast(Divisible, PARTS[name].build()).LAST
    return {f"whole.{key}": value for key, value in state.items() if key.startswith(names) is last}
