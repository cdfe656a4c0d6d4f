import pytest
import torch
from torch import nn

from debias.models.gates import add_gates
from debias.models.registry import build_backbone, build_classifier, seeded
from debias.models.resnet import Block, CifarResNet, ResNet18

CIFAR = (3, 32, 32)


def test_resnet20_has_the_papers_size():
    # 19 convolutions (432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864), two numbers a channel for 19 norms.
    network = CifarResNet()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 19
    assert sum(module.weight.numel() for module in convolutions) == 267_696
    assert sum(p.numel() for p in network.parameters()) == 267_696 + 2 * 7 * 16 + 2 * 6 * 32 + 2 * 6 * 64
    # With the classifier of ten classes: the 0.27 million of the paper.
    classifier = build_classifier({"backbone": "resnet20", "shape": [3, 32, 32], "classes": 10})
    assert sum(p.numel() for p in classifier.parameters()) == 269_722


def test_sizes_on_the_way():
    network = CifarResNet().eval()
    sizes = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, given, made: sizes.append(tuple(made.shape[1:])))
    assert network(torch.rand(2, *CIFAR)).shape == (2, 64) == (2, network.features)
    assert sizes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_the_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros():
    block = Block(2, 4, 2).eval()
    nn.init.zeros_(block.norm2.weight)
    images = torch.rand(1, 2, 6, 6)
    found = block(images)
    torch.testing.assert_close(found[:, 1:3], images[:, :, ::2, ::2])
    assert (found[:, [0, 3]] == 0).all()
    assert not list(block.children())[4:]


def test_resnet20_starts_from_kaimings_distribution():
    network = seeded(CifarResNet, 0)
    assert isinstance(network, CifarResNet)
    weight = network.blocks[8].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("name", "features"), [("resnet18", 512), ("resnet18_64", 64), ("resnet18_imagenet_64", 64)])
def test_resnet18(name, features):
    network = build_backbone(name, CIFAR).eval()
    assert network.features == features
    for side in (32, 64):
        assert network(torch.rand(2, 3, side, side)).shape == (2, features)


@pytest.mark.parametrize(("classes", "gates"), [(10, 11_172_032), (2, 11_167_936)])
def test_gates_of_resnet18_as_dcwp_counts_them(classes, gates):
    network = build_classifier({"backbone": "resnet18", "shape": [3, 32, 32], "classes": classes})
    found = add_gates(network, "reference")
    assert (len(found.names), found.count) == (21, gates)


def test_resnet18_has_the_stem_for_large_images():
    network = ResNet18()
    stem = network.body.conv1
    assert (stem.kernel_size, stem.stride) == ((7, 7), (2, 2))
    # Kaiming's normal distribution by the number of outputs, as torchvision starts.
    assert stem.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
