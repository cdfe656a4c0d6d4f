"""The networks of Learning Not to Learn (Kim et al., CVPR 2019) on Colored MNIST."""

from typing import cast

import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.backbone import Backbone


class ConvNet(Backbone):
    """f, which gives maps at half the resolution, and g, which makes features of them.

    f: normalisation of the input, 5x5 convolution, ReLU, maximum over 3x3 at every second pixel, 3x3 convolution, ReLU.
    g: two 3x3 convolutions with ReLU, the first of stride 2, and the average over the pixels.
    67,760 weights on RGB images, a head for ten classes included.

    Parameters
    ----------
    shape
        Shape (C, H, W) of an image; sides are even, as every map position stands for 2x2 pixels.
    width
        Channels of the maps.

    Raises
    ------
    UserError
        Images with an odd side.
    """

    parts = ("maps", "after_maps")

    def __init__(self, shape: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        channels, height, wide = shape
        if height % 2 or wide % 2:
            raise UserError(f"network convnet: images of {height}x{wide} do not fit, it takes even sides")
        self.features = 2 * width
        self.maps_width = width
        self.norm = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, kernel_size=5, padding=2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(width, 2 * width, kernel_size=3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(2 * width, 2 * width, kernel_size=3, padding=1)
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            size = convolution.kernel_size[0] * convolution.kernel_size[1] * convolution.out_channels
            nn.init.normal_(convolution.weight, std=(2 / size) ** 0.5)

    def maps(self, images: Tensor) -> Tensor:
        """f: maps [B, width, H / 2, W / 2] of images [B, C, H, W]."""
        hidden = self.pool(torch.relu(self.conv1(self.norm(images))))
        return torch.relu(self.conv2(hidden))

    def after_maps(self, maps: Tensor) -> Tensor:
        """g: features [B, 2 width]."""
        hidden = torch.relu(self.conv4(torch.relu(self.conv3(maps))))
        return hidden.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, 2 width] of images [B, C, H, W]."""
        return self.after_maps(self.maps(images))


class ColourPredictors(nn.Module):
    """h: for every channel of the image a predictor of its bin at every map position, all in two convolutions.

    Each is a 3x3 convolution, normalisation, ReLU and a 3x3 convolution. The first convolutions read the same maps, so
    side by side they are one; the second ones are one grouped convolution.

    Parameters
    ----------
    width
        Channels of the maps.
    channels, bins
        Channels of an image, and bins of each.
    """

    def __init__(self, width: int = 32, channels: int = 3, bins: int = 8) -> None:
        super().__init__()
        self.channels, self.bins = channels, bins
        self.conv1 = nn.Conv2d(width, channels * width, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(channels * width)
        self.conv2 = nn.Conv2d(channels * width, channels * bins, kernel_size=3, padding=1, groups=channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits [B, channels, bins, H, W] of maps [B, width, H, W]."""
        logits = self.conv2(torch.relu(self.norm(self.conv1(maps))))
        return cast(Tensor, logits.unflatten(1, (self.channels, self.bins)))
