"""The convolutional network of Biased MNIST: ReBias (ICML 2020), and EnD (CVPR 2021) with features of length 1."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from debias.models.backbone import Backbone


class SimpleConv(Backbone):
    """Four convolutions with batch normalisation and no pooling, then a global average.

    With kernel 7, stride 1 and a head of ten classes 531,210 parameters and 415 million multiplications an image of
    28x28.

    Parameters
    ----------
    channels
        Channels of an image.
    kernel
        Side of every kernel, odd; images are padded so that stride 1 keeps their size.
    stride
        Stride of the first two convolutions.
    unit
        EnD's network: Tanh instead of the last ReLU, and features scaled to length 1 (they can be negative).
    widths
        Output channels of the convolutions; the last is the number of features.
    """

    def __init__(
        self,
        channels: int = 3,
        kernel: int = 7,
        stride: int = 1,
        unit: bool = True,
        widths: tuple[int, ...] = (16, 32, 64, 128),
    ) -> None:
        super().__init__()
        self.features = widths[-1]
        self.unit = unit
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((channels, *widths[:-1]), widths, strict=True)):
            convolution = nn.Conv2d(before, after, kernel, stride=stride if number < 2 else 1, padding=kernel // 2)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            last = number == len(widths) - 1
            layers += [convolution, nn.BatchNorm2d(after), nn.Tanh() if unit and last else nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, widths[-1]] of images [B, C, H, W]."""
        features = torch.mean(self.layers(images), dim=(2, 3))
        return normalize(features, dim=1) if self.unit else features
