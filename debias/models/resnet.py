"""Residual networks (He et al., CVPR 2016): the small one of CIFAR-10, and torchvision's ResNet-18 and ResNet-50."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from debias.models.backbone import Backbone


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without weights (option A).

    Where channels grow the shortcut takes every second pixel and fills up with channels of zeros, half on either side.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, (after - before) // 2
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)

    def forward(self, images: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, H / stride, W / stride]."""
        hidden = torch.relu(self.norm1(self.conv1(images)))
        hidden = self.norm2(self.conv2(hidden))
        if self.stride == 1 and self.added == 0:
            return torch.relu(hidden + images)
        past = images[:, :, :: self.stride, :: self.stride]
        return torch.relu(hidden + pad(past, (0, 0, 0, 0, self.added, self.added)))


class CifarResNet(Backbone):
    """CIFAR's ResNet of 6 n + 2 layers, the classifier counted: widths 16, 32, 64, a global average, 64 features.

    Convolutions start from Kaiming's normal distribution.
    """

    def __init__(self, channels: int = 3, depth: int = 20) -> None:
        super().__init__()
        self.features = 64
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, before = [], 16
        for after in (16, 32, 64):
            for number in range((depth - 2) // 6):
                blocks.append(Block(before, after, 2 if number == 0 and after > 16 else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, 64] of images [B, C, H, W]."""
        return self.early_and_late(images)[1]

    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps after the first convolution and the first block, and the features, [B, 64]."""
        early = [torch.relu(self.norm(self.conv(images)))]
        early.append(self.blocks[0](early[0]))
        return early, self.blocks[1:](early[1]).mean((2, 3))


class ResNet18(Backbone):
    """torchvision's ResNet-18 with its stem for large images, at any size; 512 features, or fewer by a projection.

    Parameters
    ----------
    projected
        Number of features that a linear layer turns the 512 into; None: no such layer.
    """

    LAST = ("body.layer4.1.",)

    def __init__(self, projected: int | None = None) -> None:
        super().__init__()
        # Not above: torchvision imports torch's compiler, for as long as all the rest of the program takes.
        from torchvision.models import resnet18

        self.features = 512 if projected is None else projected
        self.body = resnet18(weights=None)
        # What is left without the classifier of ImageNet's classes.
        self.body.fc = nn.Identity()
        self.project = nn.Identity() if projected is None else nn.Linear(512, projected)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of images [B, 3, H, W]."""
        return self.project(self.body(images))

    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps after the stem and the first stage, and the features."""
        early, hidden = until_last_of(self.body, images)
        return early, self.project(self.last(hidden))

    def until_last(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same maps, and the input of the last block, [B, 512, H / 32, W / 32]."""
        return until_last_of(self.body, images)

    def last(self, maps: Tensor) -> Tensor:
        """The 512 features of the input of the last block."""
        return last_of(self.body, maps)


class ResNet50(Backbone):
    """torchvision's ResNet-50 at any size; 2,048 features."""

    LAST = ("body.layer4.2.",)

    def __init__(self) -> None:
        # Not above: torchvision imports torch's compiler, for as long as all the rest of the program takes.
        from torchvision.models import resnet50

        super().__init__()
        self.features = 2048
        self.body = resnet50(weights=None)
        self.body.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, 2048] of images [B, 3, H, W]."""
        return self.body(images)

    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps after the stem and the first stage, and the features."""
        early, hidden = until_last_of(self.body, images)
        return early, last_of(self.body, hidden)

    def until_last(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same maps, and the input of the last block, [B, 2048, H / 32, W / 32]."""
        return until_last_of(self.body, images)

    def last(self, maps: Tensor) -> Tensor:
        """The 2,048 features of the input of the last block."""
        return last_of(self.body, maps)


def until_last_of(body: Any, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Of one of torchvision's residual networks, maps after its stem and its first stage, and before its last block."""
    stem = body.maxpool(body.relu(body.bn1(body.conv1(images))))
    first = body.layer1(stem)
    return [stem, first], body.layer4[:-1](body.layer3(body.layer2(first)))


def last_of(body: Any, maps: Tensor) -> Tensor:
    """The features that the last block of one of torchvision's residual networks gives."""
    return body.fc(body.avgpool(body.layer4[-1](maps)).flatten(1))
