"""LeNet of the two-modality experiments: its size, its layers, and the gradient by the image."""

import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from debias.errors import UserError
from debias.models.lenet import EntryConv2d, LeNet
from debias.models.registry import build_classifier


def test_the_published_number_of_weights():
    network = build_classifier({"backbone": "lenet", "shape": [1, 28, 28], "classes": 10, "vector": 3})
    assert sum(weight.numel() for weight in network.parameters()) == 44_456


def test_features_layer_by_layer():
    torch.manual_seed(0)
    net, images = LeNet((1, 28, 28)), torch.rand(4, 1, 28, 28)
    hidden = max_pool2d(torch.relu(conv2d(images, net.conv1.weight, net.conv1.bias)), 2)
    hidden = max_pool2d(torch.relu(net.conv2(hidden)), 2)
    assert hidden.shape == (4, 16, 4, 4)
    hidden = torch.relu(net.linear2(torch.relu(net.linear1(hidden.flatten(1)))))
    torch.testing.assert_close(net(images), hidden)


def test_images_that_are_too_small_are_refused():
    assert LeNet((3, 16, 20))(torch.rand(2, 3, 16, 20)).shape == (2, 84)
    with pytest.raises(UserError, match="15x28 are too small"):
        LeNet((1, 15, 28))


def test_the_turned_gradient_is_that_of_a_plain_convolution():
    """First and second derivatives, by images and weights."""
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(2, 3, 5).double()
    entry = EntryConv2d(2, 3, 5).double()
    entry.load_state_dict(plain.state_dict())
    images = torch.randn(2, 2, 9, 8, dtype=torch.float64, requires_grad=True)
    found, expected = [], []
    for layer, results in ((entry, found), (plain, expected)):
        output = layer(images)
        (by_images,) = torch.autograd.grad(output.sin().sum(), images, create_graph=True)
        results += [output, by_images, *torch.autograd.grad(output.cos().sum(), list(layer.parameters()))]
        output = layer(images)
        (by_images,) = torch.autograd.grad(output.sin().sum(), images, create_graph=True)
        results += torch.autograd.grad(by_images.square().sum(), [images, *layer.parameters()])
    torch.testing.assert_close(found, expected)


def test_the_gradient_by_the_input_goes_through_half_precision():
    torch.manual_seed(0)
    layer = EntryConv2d(2, 3, kernel_size=5)
    images = torch.rand(2, 2, 9, 9)

    def by_input(dtype: torch.dtype) -> torch.Tensor:
        wanted = images.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            found = layer(wanted).float().square().sum()
        return torch.autograd.grad(found, wanted)[0]

    torch.testing.assert_close(by_input(torch.bfloat16), by_input(torch.float32), rtol=0.1, atol=0.1)
