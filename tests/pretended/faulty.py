"""Networks with a fault: what somebody may write without noticing, as nothing of it is wrong on a CPU."""

from collections.abc import Callable

import pytest
from torch import Tensor

from debias.models.backbone import Backbone
from debias.models.registry import BACKBONES


class Faulty(Backbone):
    """A network whose features go through a function."""

    def __init__(self, network: Backbone, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.features = network, network.features
        self._fault = fault

    def forward(self, images: Tensor) -> Tensor:
        return self._fault(self.network(images))


def plant(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensor], Tensor]) -> None:
    """Give all networks a fault until the end of the test."""
    for name, make in list(BACKBONES.items()):
        monkeypatch.setitem(BACKBONES, name, lambda shape, make=make: Faulty(make(shape), fault))
