"""Networks on features of a pretrained network: a classifier alone or behind a hidden layer, on late or early features.

Features end with `EARLY` statistics of the pretrained network's first layers (`models.embedders.Embedding`). They tell
of colours, sharpness, borders and marks, and next to nothing of what is in a photograph: there a shortcut is found that
late features drown in what belongs to the class.
"""

import math

import torch
from torch import Tensor, nn

from debias.models.backbone import Backbone

EARLY = 512
# Networks that are the last block of a pretrained one (`models.lastblock`), and what the features that they take are
# called; and back.
TAKES = {
    "efficientnet_lite0_last": "efficientnet_lite0_tuned",
    "resnet18_last": "resnet18_tuned",
    "resnet50_last": "resnet50_tuned",
}
TRAINED = {features: name for name, features in TAKES.items()}


class Flat(Backbone):
    """The values as they are, so that a classifier on top of it is linear; of features the late ones, or the early.

    Parameters
    ----------
    shape
        (D, 1, 1) of features; of images (C, H, W), all of whose values are taken.
    early
        Whether it takes the early features.
    """

    def __init__(self, shape: tuple[int, int, int], early: bool = False) -> None:
        super().__init__()
        size = math.prod(shape)
        divided = shape[1:] == (1, 1) and shape[0] > EARLY
        self._taken = slice(None) if not divided else slice(-EARLY, None) if early else slice(None, -EARLY)
        self.features = len(range(size)[self._taken])

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of images [B, C, H, W], or of features [B, D, 1, 1]."""
        return images.flatten(1)[:, self._taken]


class Hidden(Backbone):
    """A hidden layer with a ReLU on the values that `Flat` takes."""

    def __init__(self, shape: tuple[int, int, int], width: int = 256) -> None:
        super().__init__()
        self.features = width
        self.taken = Flat(shape)
        self.layer = nn.Linear(self.taken.features, width)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, width] of images [B, C, H, W], or of features [B, D, 1, 1]."""
        return torch.relu(self.layer(self.taken(images)))
