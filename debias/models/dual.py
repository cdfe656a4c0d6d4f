"""Two encoders side by side: one for the target, one for the bias (DisEnt, NeurIPS 2021)."""

import torch
from torch import Tensor

from debias.models.backbone import Backbone


class Dual(Backbone):
    """Two networks on the same images, the features of both: first those for the target, then those for the bias."""

    def __init__(self, target: Backbone, bias: Backbone) -> None:
        super().__init__()
        self.features = target.features + bias.features
        self.target = target
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of images [B, C, H, W]."""
        return torch.cat([self.target(images), self.bias(images)], dim=1)
