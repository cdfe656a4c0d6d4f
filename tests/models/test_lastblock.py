"""Pretrained networks in two parts: together they are the whole, and each has its own tensors and no more."""

import pytest
import torch
from torch import nn

from debias.errors import UserError
from debias.models.embedders import KNOWN, Embedding, part_of
from debias.models.lastblock import PARTS, UntilLast
from debias.models.onfeatures import EARLY, TAKES
from debias.models.registry import FLAT, build_backbone

SIZE = 64


def whole_of(name: str) -> nn.Module:
    """The network with statistics of batches that are not those it starts from."""
    torch.manual_seed(1)
    network = PARTS[name].build()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_both_parts_together_are_the_whole(name: str) -> None:
    whole = whole_of(name)
    state = whole.state_dict()
    first, channels = KNOWN[TAKES[name]].build(SIZE), KNOWN[TAKES[name]].channels
    first.load_state_dict(part_of(name, False, state))
    images = torch.rand(3, 3, SIZE, SIZE)
    features = Embedding(first.eval(), channels)(images)
    expected = Embedding(whole, channels)(images)
    assert features.shape == (3, PARTS[name].channels * (SIZE // 32) ** 2 + EARLY, 1, 1)
    assert first.features == features.shape[1] - EARLY
    assert torch.equal(features[:, -EARLY:], expected[:, -EARLY:])
    last = build_backbone(name, tuple(features.shape[1:])).eval()
    last.load_state_dict(part_of(name, True, state))
    torch.testing.assert_close(last(features), expected[:, :-EARLY, 0, 0])
    assert last.features == expected.shape[1] - EARLY
    # Nothing is kept twice, and nothing is lost.
    counts = [sum(value.numel() for value in part.state_dict().values()) for part in (first, last, whole)]
    assert counts[0] + counts[1] == counts[2] and counts[1] < counts[2] / 2


def test_all_of_them_are_networks_on_features() -> None:
    assert PARTS.keys() == TAKES.keys() <= set(FLAT)


def test_each_stands_on_a_meta_device_too() -> None:
    with torch.device("meta"):
        assert UntilLast("resnet18_last", SIZE).features == 512 * 4


@pytest.mark.parametrize("values", [EARLY, EARLY + 192 * 3, EARLY + 100, EARLY + 192 * 4 + 1])
def test_other_features_are_refused(values: int) -> None:
    assert "efficientnet_lite0_last" in FLAT
    with pytest.raises(UserError, match="takes features=efficientnet_lite0_tuned"):
        build_backbone("efficientnet_lite0_last", (values, 1, 1))


def test_images_are_refused() -> None:
    with pytest.raises(UserError, match="takes features=resnet18_tuned"):
        build_backbone("resnet18_last", (3, 64, 64))


def test_tensors_of_another_network_have_no_such_part() -> None:
    assert part_of("resnet18_last", True, whole_of("efficientnet_lite0_last").state_dict()) == {}
