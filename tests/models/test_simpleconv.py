"""The networks of Biased MNIST: sizes as published, features of length 1 or not, and a feature by hand."""

import pytest
import torch
from torch import nn

from debias.models.registry import build_classifier, seeded
from debias.models.simpleconv import SimpleConv


def test_parameters_and_layers_are_those_published():
    model = build_classifier({"backbone": "end_cnn", "shape": [3, 28, 28], "classes": 10})
    assert sum(parameter.numel() for parameter in model.parameters()) == 531_210
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in convolutions] == [
        (16, 3, 7, 7),
        (32, 16, 7, 7),
        (64, 32, 7, 7),
        (128, 64, 7, 7),
    ]
    assert all(layer.bias is not None and layer.stride == (1, 1) for layer in convolutions)
    kinds = [type(module).__name__ for module in model.modules() if isinstance(module, nn.ReLU | nn.Tanh)]
    assert kinds == ["ReLU", "ReLU", "ReLU", "Tanh"]
    # Kaiming's normal by fan-out: variance 2 / (128 * 49).
    assert float(convolutions[-1].weight.detach().std()) == pytest.approx((2 / (128 * 49)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("stride", "sides"), [(1, [28] * 4), (2, [14, 7, 7, 7])])
def test_sides(stride, sides):
    network, seen = SimpleConv(kernel=3, stride=stride, widths=(2, 2, 2, 2)), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: seen.append(output.shape[2]))
    network(torch.rand(2, 3, 28, 28))
    assert seen == sides


def test_unit_features_have_length_one_and_both_signs():
    images = torch.rand(6, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    features = seeded(lambda: SimpleConv(kernel=3), 0)(images)
    assert torch.allclose(features.norm(dim=1), torch.ones(6))
    assert bool((features < 0).any() & (features > 0).any())
    plain = seeded(lambda: SimpleConv(kernel=3, unit=False), 0)(images)
    assert bool((plain >= 0).all()) and not torch.allclose(plain.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("name", ["rebias_cnn_1x1", "rebias_cnn"])
def test_kernels_of_one_pixel_see_no_shapes(name):
    """The same pixels in any order have the same features there, and others with kernels of seven."""
    network = seeded(lambda: build_classifier({"backbone": name, "shape": [3, 28, 28], "classes": 10}), 0).eval()
    images = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(28 * 28, generator=torch.Generator().manual_seed(1))
    mixed = images.flatten(2)[:, :, order].view_as(images)
    with torch.no_grad():
        one, other = network.features(images), network.features(mixed)
    assert torch.allclose(one, other, atol=1e-5) is (name == "rebias_cnn_1x1")


def test_features_by_hand():
    """Kernels that pass one channel on leave its mean; normalisation divides by sqrt(1 + eps) four times."""
    network = SimpleConv(1, kernel=1, unit=False, widths=(1, 1, 1, 1)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        image = torch.rand(2, 1, 5, 5)
        assert torch.allclose(network(image)[:, 0], image.mean((1, 2, 3)) / (1 + 1e-5) ** 2, atol=1e-6)
