import pytest
import torch
from torch import nn

from debias.models.mlp import MLP


def test_hand_computed_features() -> None:
    network = MLP((1, 1, 2), layers=2, width=2)
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
        network.layers[0].bias.copy_(torch.tensor([0.5, 0.0]))
        network.layers[1].weight.copy_(torch.tensor([[2.0, 1.0], [-1.0, 3.0]]))
        network.layers[1].bias.copy_(torch.tensor([-1.0, 1.0]))
    # [3, 1]: first layer (5.5, -2) -> (5.5, 0); second (10, -4.5) -> (10, 0)
    # [0, 2]: first layer (4.5, 2) -> (4.5, 2); second (10, 2.5)
    images = torch.tensor([[[[3.0, 1.0]]], [[[0.0, 2.0]]]])
    torch.testing.assert_close(network(images), torch.tensor([[10.0, 0.0], [10.0, 2.5]]))


def test_an_image_is_read_channel_by_channel() -> None:
    network = MLP((3, 2, 2), layers=1, width=12)
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.eye(12))
        network.layers[0].bias.zero_()
    images = torch.zeros(1, 3, 2, 2)
    images[0, 1, 0, 1] = 1.0  # channel 1, row 0, column 1: place 1 * 4 + 0 * 2 + 1
    assert network(images)[0].nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_sizes_of_the_layers(layers: int) -> None:
    network = MLP((3, 28, 28), layers)
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(100, 2352)] + [(100, 100)] * (layers - 1)
    assert network.features == 100
    assert network(torch.rand(5, 3, 28, 28)).shape == (5, 100)


def test_features_come_after_a_relu() -> None:
    torch.manual_seed(0)
    features = MLP((3, 4, 4), layers=2)(torch.randn(20, 3, 4, 4))
    assert (features >= 0).all()
    assert (features == 0).any()


def test_after_entry_is_what_follows_the_first_layer() -> None:
    torch.manual_seed(0)
    network = MLP((3, 4, 4), layers=3)
    images = torch.rand(6, 3, 4, 4)
    entry = nn.functional.linear(images.flatten(1), network.layers[0].weight, network.layers[0].bias)
    assert torch.equal(network.after_entry(entry), network(images))
