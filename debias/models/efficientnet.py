"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, ICML 2019) with ReLU6 and without squeeze and excitation."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from debias.models.backbone import Backbone

# Expansion, channels, blocks, kernel and the stride of the first block, stage by stage.
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
STEM, HEAD = 32, 1280
# Last blocks of the first three stages.
_ENDS = (0, 2, 4)
# Of batch normalisation, as in the network's TensorFlow original.
EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) pixels a side; an odd padding puts its larger half behind."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(images)
        tall, wide = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in images.shape[-2:])
        padded = F.pad(images, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        return super().forward(padded)


def _layer(before: int, after: int, kernel: int, stride: int = 1, *, groups: int = 1, active: bool = True) -> nn.Module:
    """Convolution, batch normalisation and, where it is `active`, ReLU6."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = SameConv(before, after, kernel, stride, groups=groups, bias=False)
    layers["norm"] = nn.BatchNorm2d(after, eps=EPSILON, momentum=0.01)
    if active:
        layers["relu"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


class InvertedBlock(nn.Module):
    """Expand, convolve each channel by itself, project; with a shortcut where the shape stays the same."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        self.shortcut = stride == 1 and before == after
        self.expand = _layer(before, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(inner, inner, kernel, stride, groups=inner)
        self.project = _layer(inner, after, 1, active=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, ceil(H / stride), ceil(W / stride)]."""
        hidden = self.project(self.depthwise(self.expand(images)))
        return hidden + images if self.shortcut else hidden


class EfficientNetLite0(Backbone):
    """3.4 M parameters; 1,280 features, the average over all places. Images of any size."""

    LAST = ("blocks.15.", "head.")

    def __init__(self) -> None:
        super().__init__()
        self.features = HEAD
        self.stem = _layer(3, STEM, 3, 2)
        blocks, before = [], STEM
        for expansion, after, count, kernel, stride in STAGES:
            for number in range(count):
                blocks.append(InvertedBlock(before, after, expansion, kernel, stride if number == 0 else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = _layer(before, HEAD, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, 1280] of images [B, 3, H, W]."""
        return self.early_and_late(images)[1]

    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps after the stem and the first three stages, and the features, [B, 1280]."""
        early, hidden = self.until_last(images)
        return early, self.last(hidden)

    def until_last(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same maps, and the input of the last block, [B, 192, H / 32, W / 32]."""
        hidden = self.stem(images)
        early = [hidden]
        for number, block in enumerate(self.blocks[:-1]):
            hidden = block(hidden)
            if number in _ENDS:
                early.append(hidden)
        return early, hidden

    def last(self, maps: Tensor) -> Tensor:
        """Features [B, 1280] of the input of the last block."""
        return torch.mean(self.head(self.blocks[-1](maps)), dim=(2, 3))


def convert_efficientnet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of the released PyTorch port as those of `EfficientNetLite0`, its classifier left out."""
    return {_renamed(name): value for name, value in state.items() if not name.startswith("_fc.")}


def _renamed(name: str) -> str:
    """`_blocks.3._bn1.weight` is `blocks.3.depthwise.norm.weight` here, and so on; others stay as they are."""
    parts = name.split(".")
    if parts[0] == "_blocks" and len(parts) > 3:
        layers = {"_bn0": "expand", "_bn1": "depthwise", "_bn2": "project"}
        layer = layers.get(parts[2], parts[2].removeprefix("_").removesuffix("_conv"))
        kind = "norm" if parts[2] in layers else "conv"
        return ".".join(["blocks", parts[1], layer, kind, *parts[3:]])
    outer = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    return ".".join([outer.get(parts[0], parts[0]), *parts[1:]])
