import pytest
import torch
from torch import nn

from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.registry import build_backbone


def convolutions(name: str, side: int) -> list[tuple[int, int, int]]:
    network = build_backbone(name, (3, side, side))
    return [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in network.modules() if isinstance(m, nn.Conv2d)]


def test_layers_of_the_papers():
    assert convolutions("shallow_cifar", 32) == [(3, 32, 5), (32, 64, 5), (64, 64, 5)]
    assert convolutions("shallow_faces", 128) == [(3, 64, 7), (64, 128, 3), (128, 512, 3), (512, 512, 3)]


@pytest.mark.parametrize(
    ("name", "side", "features"),
    # 44: (44 - 4) / 2 = 20, (20 - 4) / 2 = 8, 8 - 4 = 4 each way.
    [("shallow_cifar", 32, 64), ("shallow_cifar", 44, 64 * 16), ("shallow_faces", 42, 512), ("shallow_faces", 64, 512)],
)
def test_features(name, side, features):
    network = build_backbone(name, (3, side, side)).eval()
    assert network.features == features
    found = network(torch.rand(2, 3, side, side))
    assert found.shape == (2, features) and (found >= 0).all()


@pytest.mark.parametrize(("name", "least"), [("shallow_cifar", 32), ("shallow_faces", 42)])
def test_images_that_are_too_small(name, least):
    with pytest.raises(UserError, match=f"{name} needs images of at least {least} x {least}, not 28 x 28"):
        build_backbone(name, (3, 28, 28))


@pytest.mark.parametrize(
    ("shallow", "deep", "side"), [("shallow_cifar", "resnet20", 32), ("shallow_faces", "resnet18", 48)]
)
def test_branches_of_the_papers(shallow, deep, side):
    branches = build_branches({"shallow": shallow, "deep": deep, "shape": [3, side, side], "classes": 10}).eval()
    read = branches.read_outs(torch.rand(2, 3, side, side))
    assert {name: logits.shape for name, logits in read.items()} == dict.fromkeys(("poe", "shallow", "deep"), (2, 10))
