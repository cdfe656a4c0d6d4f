"""The small LeNet of two-modality Colored MNIST (functional Fisher information on grey images and a colour)."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

from debias.errors import UserError
from debias.models.backbone import Backbone


class LeNet(Backbone):
    """Two 5x5 convolutions without padding, each with ReLU and a maximum over 2x2, then two linear layers with ReLU.

    44,456 weights on 28x28 grey images, a head for ten classes and a colour of three values included.

    Parameters
    ----------
    shape
        Shape (C, H, W) of an image, at least 16 pixels a side.
    widths
        Output channels of the convolutions.
    units
        Units of the linear layers; the last is the number of features.

    Raises
    ------
    UserError
        Images that are too small.
    """

    def __init__(
        self, shape: tuple[int, int, int], widths: tuple[int, int] = (6, 16), units: tuple[int, int] = (120, 84)
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 16:
            raise UserError(f"network lenet: images of {height}x{width} are too small, it takes 16x16 and more")
        left = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        self.features = units[1]
        self.conv1 = EntryConv2d(channels, widths[0], kernel_size=5)
        self.conv2 = nn.Conv2d(widths[0], widths[1], kernel_size=5)
        self.linear1 = nn.Linear(widths[1] * left[0] * left[1], units[0])
        self.linear2 = nn.Linear(units[0], units[1])

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, units[1]] of images [B, C, H, W]."""
        hidden = images
        for convolution in (self.conv1, self.conv2):
            # The maximum first: it is the same, and leaves a quarter of the values to the ReLU.
            hidden = torch.relu(max_pool2d(convolution(hidden), 2))
        hidden = torch.relu(self.linear1(hidden.flatten(1)))
        return cast(Tensor, torch.relu(self.linear2(hidden)))


class EntryConv2d(nn.Conv2d):
    """A convolution of stride 1 without padding whose gradient by its input is cheap.

    Plain convolutions of images with few channels are fast forwards only: their gradient by the image takes ten times
    as long on a CPU. It is a convolution itself, with the kernel turned round.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The convolution; the other way back is taken only where the gradient by the input is wanted."""
        if not (input.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        output = super().forward(input.detach())
        return _TurnedGradient.apply(input, output, self.weight)


class _TurnedGradient(torch.autograd.Function):
    """The output as it is; its gradient goes on to the output, and through the turned kernel to the images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, output: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (by_output,) = ctx.saved_tensors, gradients
        edge = (weight.shape[2] - 1, weight.shape[3] - 1)
        return conv2d(by_output, weight.to(by_output.dtype).flip(2, 3).transpose(0, 1), padding=edge), by_output, None
