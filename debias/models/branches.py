"""The two branches of DeNetDM and their shared classifier (NeurIPS 2024, section 3)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from debias.errors import UserError
from debias.models.backbone import Backbone, Joinable
from debias.models.mlp import MLP
from debias.models.registry import build_backbone


class Branches(Joinable):
    """A shallow and a deep branch read through one classifier: logits = f(shallow(x) + deep(x)).

    The read-out of one branch alone is f of its features. Two MLPs that read the same pixels take their first layers in
    one matrix product (`join`); parameters and their names are the same either way.
    """

    def __init__(self, shallow: Backbone, deep: Backbone, classes: int) -> None:
        super().__init__()
        if shallow.features != deep.features:
            raise UserError(
                f"the shallow branch gives {shallow.features} features and the deep one {deep.features}; "
                "they must give as many: choose other networks"
            )
        self.shallow = shallow
        self.deep = deep
        self.head = nn.Linear(deep.features, classes)
        self._entry: Tensor | None = None

    def join(self) -> "Branches":
        """Lay the first layers of two MLPs side by side in memory, so that one product serves both.

        To be called after the network has been moved to its device; a network that is moved or copied later falls back
        to two products by itself.
        """
        if isinstance(self.shallow, MLP) and isinstance(self.deep, MLP):
            first, second = self.shallow.layers[0].weight, self.deep.layers[0].weight
            entry = torch.cat([first.detach(), second.detach()])
            first.data, second.data = entry[: len(first)], entry[len(first) :]
            self._entry = entry
        return self

    def part(self) -> None:
        """Undo `join`: two products again."""
        self._entry = None

    def _joined(self) -> Tensor | None:
        """The joined first weight when both parameters still live in it."""
        entry, shallow, deep = self._entry, self.shallow, self.deep
        if entry is None or not (isinstance(shallow, MLP) and isinstance(deep, MLP)):
            return None
        rows, own = shallow.layers[0].weight, deep.layers[0].weight
        lives = rows.data_ptr() == entry.data_ptr() and own.data_ptr() == entry[len(rows) :].data_ptr()
        return entry if lives else None

    def experts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (shallow, deep), each [B, F], of images [B, C, H, W]."""
        entry = self._joined()
        if entry is None or not (isinstance(self.shallow, MLP) and isinstance(self.deep, MLP)):
            return self.shallow(images), self.deep(images)
        first, second = self.shallow.layers[0], self.deep.layers[0]
        split = _JoinedLinear.apply(images.flatten(1), first.weight, first.bias, second.weight, second.bias, entry)
        return self.shallow.after_entry(split[0]), self.deep.after_entry(split[1])

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of the product of experts."""
        shallow, deep = self.experts(images)
        return self.head(shallow + deep)

    def read_outs(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of the product of experts (`poe`) and of each branch alone, from one pass."""
        shallow, deep = self.experts(images)
        return {"poe": self.head(shallow + deep), "shallow": self.head(shallow), "deep": self.head(deep)}


def build_branches(spec: Mapping[str, Any]) -> Branches:
    """The branches a spec describes: {"shallow": name, "deep": name, "shape": [C, H, W], "classes": n}."""
    channels, height, width = (int(side) for side in spec["shape"])
    shape = (channels, height, width)
    return Branches(
        build_backbone(str(spec["shallow"]), shape), build_backbone(str(spec["deep"]), shape), int(spec["classes"])
    )


class _JoinedLinear(torch.autograd.Function):
    """Two linear layers on one input as one product; `entry` holds both weights, row on row.

    The images get no gradient: they are data.
    """

    @staticmethod
    def forward(ctx, images, weight_a, bias_a, weight_b, bias_b, entry):
        ctx.save_for_backward(images)
        ctx.rows = len(weight_a)
        return torch.addmm(torch.cat([bias_a, bias_b]), images, entry.t()).tensor_split([len(weight_a)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_a, grad_b):
        (images,) = ctx.saved_tensors
        grad = torch.cat([grad_a, grad_b], dim=1)
        weight, bias = grad.t() @ images, grad.sum(0)
        n = ctx.rows
        return None, weight[:n], bias[:n], weight[n:], bias[n:], None
