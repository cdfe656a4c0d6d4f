"""Heat: values by hand, what the papers' formulas promise, and networks of every kind."""

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from debias.models.embedders import KNOWN, Embedding
from debias.models.export import Deployed
from debias.models.heat import (
    Contrast,
    class_activation,
    gradient_activation,
    has_maps,
    heat_of_answers,
    is_pooled_linear,
    normalised,
    resized,
    share_inside,
)
from debias.models.onfeatures import TAKES
from debias.models.registry import BACKBONES, FLAT, build_classifier


class Pooled(nn.Module):
    """A convolution of 1 x 1 without a bias, a ReLU, the average over places, a linear layer."""

    def __init__(self, weight, head, bias) -> None:
        super().__init__()
        self.conv = nn.Conv2d(len(weight[0]), len(weight), 1, bias=False)
        self.conv.weight.data = torch.tensor(weight)[:, :, None, None]
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(len(weight), len(head))
        self.head.weight.data, self.head.bias.data = torch.tensor(head), torch.tensor(bias)

    def forward(self, images):
        return self.head(self.act(self.conv(images)).mean((2, 3)))


class Corner(nn.Module):
    """Keeps the lower right quarter of maps."""

    def forward(self, maps):
        kept = torch.zeros_like(maps)
        kept[:, :, maps.shape[2] // 2 :, maps.shape[3] // 2 :] = 1
        return maps * kept


def built(name: str, side: int = 32, channels: int = 3):
    torch.manual_seed(3)
    network = build_classifier({"backbone": name, "shape": [channels, side, side], "classes": 4})
    with torch.no_grad():
        # Statistics of normalisation that are not all alike.
        network(torch.rand(16, channels, side, side))
    return network.eval(), torch.rand(5, channels, side, side), torch.tensor([0, 3, 1, 1, 2])


def test_values_by_hand():
    network = Pooled([[1.0], [-1.0]], [[2.0, 0.0], [0.0, 3.0]], [0.5, -0.5]).eval()
    images = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    # Maps after the ReLU: [[1, 0], [3, 0]] and [[0, 2], [0, 0]]; an average over four places divides by 4.
    assert class_activation(network, images, torch.tensor([0])).tolist() == [[[0.5, 0.0], [1.5, 0.0]]]
    assert class_activation(network, images, torch.tensor([1])).tolist() == [[[0.0, 1.5], [0.0, 0.0]]]
    assert gradient_activation(network, images, torch.tensor([0])).tolist() == [[[0.5, 0.0], [1.5, 0.0]]]
    against = Pooled([[1.0]], [[-4.0], [4.0]], [0.0, 0.0]).eval()
    ones = torch.ones(1, 1, 2, 2)
    assert class_activation(against, ones, torch.tensor([0])).tolist() == [[[-1.0, -1.0], [-1.0, -1.0]]]
    assert gradient_activation(against, ones, torch.tensor([0])).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    # The logits are 2.5 and 1.
    heat = heat_of_answers(network, images, places=2)
    assert heat.classes.tolist() == [0] and heat.values.tolist() == [[[0.5, 0.0], [1.5, 0.0]]] and heat.exact


@pytest.mark.parametrize("name", ["cnn", "resnet20", "shallow_faces", "convnet", "rebias_cnn", "dual_resnet20"])
def test_of_networks_that_average_maps(name):
    """CAM adds up to the logit less the bias, and Grad-CAM is its positive part but for one positive factor."""
    network, images, classes = built(name, 64 if name == "shallow_faces" else 32)
    assert has_maps(network, images)
    if name == "convnet":
        # Its last module comes before a ReLU, so it is none of these.
        assert not is_pooled_linear(network, images)
        return
    assert is_pooled_linear(network, images)
    heat = class_activation(network, images, classes)
    logits = network(images).gather(1, classes[:, None])[:, 0]
    assert torch.allclose(heat.sum((1, 2)), logits - network.head.bias[classes], atol=1e-4)
    graded = gradient_activation(network, images, classes)
    assert torch.allclose(graded, heat.clamp(min=0), rtol=1e-4, atol=1e-6) and bool((graded > 0).any())


def test_of_the_part_that_softmax_reads():
    network, images, classes = built("cnn")
    heats = [class_activation(Contrast(network), images, torch.full_like(classes, label)) for label in range(4)]
    assert torch.allclose(sum(heats), torch.zeros_like(heats[0]), atol=1e-5)
    # A map that is added to that of every class changes no probability, and nothing here.
    with torch.no_grad():
        network.head.weight += torch.rand(1, network.head.weight.shape[1])
    again = class_activation(Contrast(network), images, torch.full_like(classes, 2))
    assert torch.allclose(again, heats[2], atol=1e-5)


@pytest.mark.parametrize("name", ["end_cnn_small", "lenet", "shallow_cifar"])
def test_other_networks_have_grad_cam(name):
    network, images, classes = built(name, channels=1 if name == "lenet" else 3)
    assert has_maps(network, images) and not is_pooled_linear(network, images)
    with pytest.raises(ValueError, match="does not end in an average"):
        class_activation(network, images, classes)
    heat = gradient_activation(network, images, classes)
    assert heat.shape[0] == 5 and bool((heat >= 0).all()) and bool((heat > 0).any())


def test_a_last_block_behind_what_comes_before_it_has_maps():
    torch.manual_seed(3)
    known = KNOWN["resnet18_tuned"]
    first = Embedding(known.build(64).eval(), known.channels)
    spec = {"backbone": "resnet18_last", "shape": [first.features, 1, 1], "classes": 4}
    network = Deployed(build_classifier(spec), {"normalise": None}, first).eval()
    images = torch.rand(3, 3, 64, 64)
    assert has_maps(network, images)
    heat = gradient_activation(network, images, torch.tensor([0, 3, 1]))
    assert len(heat) == 3 and bool((heat >= 0).all()) and bool((heat > 0).any())


@pytest.mark.parametrize("name", [name for name in BACKBONES if name in FLAT and name not in TAKES])
def test_networks_without_maps_say_so(name):
    network, images, classes = built(name, 8)
    assert not has_maps(network, images) and not is_pooled_linear(network, images)
    with pytest.raises(ValueError, match="no maps"):
        gradient_activation(network, images, classes)


def test_finer_maps_of_a_network_whose_last_are_coarse():
    network, images, _ = built("resnet18")
    # Of 32 pixels the last maps are one place, the ones before 2 x 2, 4 x 4 and 8 x 8.
    found = heat_of_answers(network, images, places=6)
    assert found.values.shape == (5, 8, 8) and not found.exact
    assert heat_of_answers(network, images, places=2).values.shape == (5, 2, 2)
    # There are none as fine, so the last ones.
    assert heat_of_answers(network, images, places=100).values.shape == (5, 2, 2)
    assert torch.equal(found.classes, network(images).argmax(1))


def test_nothing_of_the_network_is_changed():
    network, images, classes = built("resnet20")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    said = network(images)
    for found in (class_activation, gradient_activation):
        found(network, images, classes)
    heat_of_answers(network, images)
    assert torch.equal(network(images), said)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.grad is None for value in network.parameters())
    with torch.no_grad():
        # Within an evaluation too.
        assert heat_of_answers(network, images).values.shape == (5, 8, 8)


def test_a_network_that_looks_at_one_corner():
    network = Pooled([[1.0]], [[1.0], [-1.0]], [0.0, 0.0]).eval()
    everywhere, images = network, torch.rand(6, 1, 12, 12) + 0.1
    corner = torch.zeros(12, 12, dtype=torch.bool)
    corner[6:, 6:] = True
    spread = share_inside(heat_of_answers(everywhere, images).values, corner)
    assert bool(((spread > 0.1) & (spread < 0.45)).all())
    network.act = Corner()
    for found in (Contrast(network), network):
        heat = heat_of_answers(found, images)
        assert heat.exact and heat.classes.tolist() == [0] * 6
        assert share_inside(heat.values, corner).tolist() == [1.0] * 6


def test_shares():
    heat = torch.tensor([[[1.0, 0.0], [0.0, 3.0]], [[0.0, 2.0], [2.0, -9.0]], [[0.0, 0.0], [-1.0, 0.0]]])
    lower_right = torch.zeros(4, 4, dtype=torch.bool)
    lower_right[2:, 2:] = True
    assert share_inside(heat, lower_right)[:2].tolist() == [0.75, 0.0]
    assert bool(share_inside(heat, lower_right)[2].isnan())
    # Half of a place's square counts half.
    lower_right[2] = False
    assert share_inside(heat, lower_right)[0].item() == pytest.approx(0.375)
    assert share_inside(heat, torch.ones(4, 4, dtype=torch.bool))[:2].tolist() == [1.0, 1.0]


def test_sizes_and_ranges():
    heat = torch.tensor([[[0.0, 4.0], [-2.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    assert normalised(heat).tolist() == [[[0.0, 1.0], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]]
    large = resized(one_hot(torch.tensor([[3]]), 4).float().view(1, 2, 2), (8, 8))
    assert large.shape == (1, 8, 8) and large[0, 7, 7] == 1 and large[0, 0, 0] == 0
