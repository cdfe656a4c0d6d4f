"""The multi-layer perceptron of Colored MNIST (DeNetDM, section 4 and appendix)."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from debias.models.backbone import Backbone


class MLP(Backbone):
    """Flattened image to features: `layers` linear layers of `width`, each followed by a ReLU.

    The papers count the classifier too: their depth 3 is `layers=2`, their depth 5 is `layers=4`.

    Parameters
    ----------
    shape
        Shape (C, H, W) of an image; it is flattened in this order.
    layers
        Number of linear layers, at least 1.
    width
        Units of each layer, and so the number of features.
    """

    def __init__(self, shape: tuple[int, int, int], layers: int, width: int = 100) -> None:
        super().__init__()
        self.features = width
        sizes = [math.prod(shape)] + [width] * layers
        self.layers: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(a, b) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, width] of images [B, C, H, W]."""
        return self.after_entry(self.layers[0](images.flatten(1)))

    def after_entry(self, entry: Tensor) -> Tensor:
        """Features [B, width] from the first layer's output [B, width] before its ReLU."""
        hidden = torch.relu(entry)
        for layer in self.layers[1:]:
            hidden = torch.relu(layer(hidden))
        return hidden
