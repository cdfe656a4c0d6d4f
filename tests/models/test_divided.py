"""The second division by 255: computed by hand, and weights that are those of the network without it."""

import pytest
import torch

from debias.models.divided import Divided
from debias.models.mlp import MLP
from debias.models.registry import build_backbone, seeded


def test_hand_computed_features() -> None:
    network = Divided(MLP((1, 1, 2), layers=1, width=2))
    with torch.no_grad():
        network.get_parameter("network.layers.0.weight").copy_(torch.tensor([[510.0, 0.0], [-255.0, 255.0]]))
        network.get_parameter("network.layers.0.bias").copy_(torch.tensor([0.25, 0.5]))
    # (1, .5) / 255: first unit 2 + .25, second -1 + .5 + .5; (.2, 1) / 255: .4 + .25, -.2 + 1 + .5
    images = torch.tensor([[[[1.0, 0.5]]], [[[0.2, 1.0]]]])
    torch.testing.assert_close(network(images), torch.tensor([[2.25, 0.0], [0.65, 1.3]]))


@pytest.mark.parametrize("name", ["mlp3", "mlp4", "mlp5"])
def test_it_is_the_same_network_on_smaller_inputs(name: str) -> None:
    plain, divided = (
        seeded(lambda made=made: build_backbone(made, (3, 4, 4)), 1) for made in (name, f"{name}_divided")
    )
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(divided(images), plain(images / 255))
    assert not torch.allclose(divided(images), plain(images), rtol=0.1)
