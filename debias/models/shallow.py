"""The shallow branches of DeNetDM on images (NeurIPS 2024, appendix and released code). Convolutions are not padded."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.backbone import Backbone


class ShallowCifar(Backbone):
    """Three 5 x 5 convolutions of 32, 64 and 64 channels, two halvings, flattened: 64 features of 32 x 32."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        sides = [((side - 4) // 2 - 4) // 2 - 4 for side in (height, width)]
        _check(shape, min(sides), "shallow_cifar", 32)
        self.features = 64 * sides[0] * sides[1]
        self.layers = nn.Sequential(
            *_block(channels, 32, 5, halve=True), *_block(32, 64, 5, halve=True), *_block(64, 64, 5)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of images [B, C, H, W]."""
        return self.layers(images).flatten(1)


class ShallowFaces(Backbone):
    """Four convolutions of 64, 128, 512 and 512 channels, three halvings, a global average: 512 features."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        sides = [((((side - 6) // 2 - 2) // 2) - 2) // 2 - 2 for side in (height, width)]
        _check(shape, min(sides), "shallow_faces", 42)
        self.features = 512
        third = OrderedDict(conv=nn.Conv2d(128, 512, 3), pool=nn.MaxPool2d(2), norm=nn.BatchNorm2d(512), relu=nn.ReLU())
        self.layers = nn.Sequential(
            *_block(channels, 64, 7, halve=True),
            *_block(64, 128, 3, halve=True),
            nn.Sequential(third),
            *_block(512, 512, 3),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, 512] of images [B, C, H, W]."""
        return torch.mean(self.layers(images), dim=(2, 3))


def _block(before: int, after: int, kernel: int, halve: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel), nn.BatchNorm2d(after), nn.ReLU()]
    return [*layers, nn.MaxPool2d(2)] if halve else layers


def _check(shape: tuple[int, int, int], left: int, name: str, least: int) -> None:
    if left < 1:
        raise UserError(f"{name} needs images of at least {least} x {least}, not {shape[1]} x {shape[2]}")
