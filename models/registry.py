"""Networks by name. A spec is plain data, so that a stored model can be rebuilt without executing anything."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from errors import UserError
from models.backbone import Backbone
from models.cnn import CNN
from models.mlp import MLP
from settings import nearest

BACKBONES: dict[str, Callable[[tuple[int, int, int]], Backbone]] = {
    "mlp3": lambda shape: MLP(shape, layers=2),
    "mlp5": lambda shape: MLP(shape, layers=4),
    "cnn": lambda shape: CNN(shape[0]),
}


class Classifier(nn.Module):
    """A backbone and a linear head.

    `features(images)` is what regularisers and miners read; `forward` gives logits [B, classes].
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.features, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features [B, F] of images [B, C, H, W]."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        return self.head(self.features(images))


def build_backbone(name: str, shape: tuple[int, int, int]) -> Backbone:
    """A fresh backbone by its name; its attribute `features` is the number of features it gives.

    Raises
    ------
    UserError
        When no network has that name.
    """
    if name not in BACKBONES:
        raise UserError(f"no network is called {name!r}; there are {', '.join(BACKBONES)}{nearest(name, BACKBONES)}")
    return BACKBONES[name](shape)


def build_classifier(spec: Mapping[str, Any]) -> Classifier:
    """The classifier a spec describes: {"backbone": name, "shape": [C, H, W], "classes": n}."""
    channels, height, width = (int(side) for side in spec["shape"])
    return Classifier(build_backbone(str(spec["backbone"]), (channels, height, width)), int(spec["classes"]))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build with the default initialisation drawn from `seed`, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
