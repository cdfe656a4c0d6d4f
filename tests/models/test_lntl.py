"""The networks of Learning Not to Learn: their sizes, and three predictors in two convolutions."""

import pytest
import torch
from torch import nn

from debias.errors import UserError
from debias.models.lntl import ColourPredictors, ConvNet
from debias.models.registry import build_classifier


def size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_published_number_of_weights():
    assert size(build_classifier({"backbone": "convnet", "shape": [3, 28, 28], "classes": 10})) == 67_760
    assert size(ColourPredictors()) == 3 * 11_624


def test_maps_at_half_the_resolution_then_features():
    net, images = ConvNet((3, 28, 28)), torch.rand(4, 3, 28, 28)
    maps = net.maps(images)
    assert maps.shape == (4, 32, 14, 14) and maps.min() >= 0
    assert net.after_maps(maps).shape == (4, 64)
    net.eval()
    torch.testing.assert_close(net(images), net.after_maps(net.maps(images)))


def test_weights_start_with_the_spread_of_the_outgoing_connections():
    net = ConvNet((3, 28, 28), width=64)
    assert net.conv2.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert net.conv3.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.03)


def test_odd_sides_are_refused():
    with pytest.raises(UserError, match="27x28 do not fit"):
        ConvNet((3, 27, 28))


@pytest.mark.parametrize("training", [True, False])
def test_grouped_predictors_are_three_separate_ones(training: bool):
    torch.manual_seed(0)
    together, maps = ColourPredictors(width=4, channels=3, bins=5).train(training), torch.randn(6, 4, 7, 7)
    logits = together(maps)
    assert logits.shape == (6, 3, 5, 7, 7)
    for channel in range(3):
        part = slice(4 * channel, 4 * channel + 4)
        first, norm, second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1)
        first.weight.data, first.bias.data = together.conv1.weight[part], together.conv1.bias[part]
        outputs = slice(5 * channel, 5 * channel + 5)
        second.weight.data, second.bias.data = together.conv2.weight[outputs], together.conv2.bias[outputs]
        if not training:
            norm.running_mean, norm.running_var = together.norm.running_mean[part], together.norm.running_var[part]
        separate = nn.Sequential(first, norm, nn.ReLU(), second).train(training)
        torch.testing.assert_close(logits[:, channel], separate(maps), rtol=1e-4, atol=1e-5)
