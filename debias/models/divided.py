"""A network whose inputs are divided once more, as the multi-layer perceptron in LfF's released program does."""

from torch import Tensor

from debias.models.backbone import Backbone

SECOND = 255.0


class Divided(Backbone):
    """A network on inputs that are divided by 255 a second time, after they are in [0, 1] (LfF's released MLP).

    Inputs of at most 1 / 255 leave the first layer nearly blind at first: what it learns from is mostly its bias terms,
    and a network trained so reaches some ten points less on Colored MNIST than one without it.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.features = network.features
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, features] of images [B, C, H, W]."""
        return self.network(images / SECOND)
