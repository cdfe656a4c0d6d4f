"""DCWP's convolutional network: its shape, its count of weights, and features worked out by hand."""

import pytest
import torch
from torch import nn

from debias.models.cnn import CNN
from debias.models.gates import add_gates
from debias.models.registry import build_classifier, seeded

SPEC = {"backbone": "cnn", "shape": [3, 28, 28], "classes": 10}


def test_the_layers_of_the_paper():
    layers = {name: module for name, module in CNN().named_modules() if isinstance(module, nn.Conv2d)}
    assert [tuple(layer.weight.shape) for layer in layers.values()] == [
        (64, 3, 4, 4),
        (128, 64, 4, 4),
        (256, 128, 4, 4),
    ]
    assert all(layer.bias is None for layer in layers.values())
    model = build_classifier(SPEC)
    gates = add_gates(model, "textbook")
    assert gates.count == 660_992
    assert len(gates.names) == 4


@pytest.mark.parametrize(("side", "sides"), [(28, [14, 7, 3]), (32, [16, 8, 4]), (8, [4, 2, 1])])
def test_each_convolution_halves_the_image(side, sides):
    network, seen = CNN(), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[2:])))
    assert network(torch.rand(2, 3, side, side)).shape == (2, 256)
    assert seen == [(size, size) for size in sides]


def test_features_by_hand():
    """Kernels that pick one tap leave every eighth pixel; normalisation divides by sqrt(1 + eps) three times."""
    network = CNN(1, (1, 1, 2)).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.weight[0, 0, 1, 1] = 1.0
                if len(module.weight) == 2:
                    module.weight[1, 0, 1, 1] = -1.0  # what ReLU takes away
        image = torch.rand(3, 1, 28, 28)
        expected = image[:, 0, 0:17:8, 0:17:8].mean((1, 2)) / (1 + 1e-5) ** 1.5
        features = network(image)
    assert torch.allclose(features[:, 0], expected, atol=1e-6)
    assert torch.equal(features[:, 1], torch.zeros(3))


def test_normalisation_learns_in_training_mode_alone():
    network = CNN(3, (4, 4, 4))
    images = torch.rand(5, 3, 28, 28)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()(images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.train()(images)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"layers.norm{layer}.{kind}" for layer in (1, 2, 3) for kind in kinds}


def test_an_image_does_not_see_the_others_of_its_batch_in_evaluation():
    network, images = CNN(3, (4, 4, 4)).eval(), torch.rand(4, 3, 28, 28)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-6)


def test_channels_and_seed():
    assert CNN(1)(torch.rand(2, 1, 28, 28)).shape == (2, 256)
    one, again, other = (seeded(lambda: build_classifier(SPEC), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["backbone.layers.conv1.weight"], other["backbone.layers.conv1.weight"])
