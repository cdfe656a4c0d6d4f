"""What every backbone offers, and a network of several."""

from torch import nn


class Backbone(nn.Module):
    """Images [B, C, H, W] to features [B, features]; the classifier on top of them is somebody else's."""

    features: int
    parts: tuple[str, ...] = ("forward",)  # methods by which others compute with it, each on its own
    prepared = False  # by training.speed, which does it once


class Joinable(nn.Module):
    """A network that may compute layers of several backbones as one product."""

    def part(self) -> None:
        """Compute each by itself from now on."""
