"""The convolutional network of DCWP's Colored MNIST experiments (CVPR 2023)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from debias.models.backbone import Backbone


class CNN(Backbone):
    """Three 4x4 convolutions of stride 2, each with batch normalisation and ReLU, then a global average.

    660,992 weights can be gated, those of a ten-class head included.

    Parameters
    ----------
    channels
        Channels of an image.
    widths
        Output channels of the convolutions; the last is the number of features.
    """

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (64, 128, 256)) -> None:
        super().__init__()
        self.features = widths[-1]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate(zip((channels, *widths[:-1]), widths, strict=True), start=1):
            layers[f"conv{number}"] = nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(after)
            layers[f"relu{number}"] = nn.ReLU()
        self.layers = nn.Sequential(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, widths[-1]] of images [B, C, H, W]."""
        return torch.mean(self.layers(images), dim=(2, 3))
