"""Weights of ImageNet: found in a known place, checked, copied; without them a line that says what to do."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

from debias.errors import UserError
from debias.models.pretrained import FILE, URL, find_weights, start_from, starts_from_imagenet
from debias.models.registry import BACKBONES, build_backbone
from debias.models.resnet import ResNet18


@pytest.fixture
def nowhere(tmp_path, monkeypatch, no_network):
    """No cache of torch, no network; gives a cache_dir."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return str(tmp_path / "cache")


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(5)
    return resnet18().state_dict()


def test_the_address_is_torchvisions():
    assert ResNet18_Weights.IMAGENET1K_V1.url == URL


def test_known_places(tmp_path, nowhere):
    places = [tmp_path / "cache" / "downloads", tmp_path / "hub" / "checkpoints", tmp_path / "data"]
    for place in places:
        place.mkdir(parents=True)
        (place / FILE).write_bytes(b"weights")
        # Each goes before those before it.
        assert find_weights(None, str(tmp_path / "data"), nowhere, "") == place / FILE
    given = tmp_path / "mine.pth"
    given.write_bytes(b"mine")
    assert find_weights(str(given), str(tmp_path / "data"), nowhere, "") == given


def test_none_to_be_had(tmp_path, nowhere):
    with pytest.raises(UserError) as refusal:
        find_weights(None, str(tmp_path), nowhere, "distill.network=resnet18_64")
    line = str(refusal.value)
    for part in (
        "Connection refused",
        FILE,
        "https://",
        str(tmp_path),
        "imagenet_weights=",
        "distill.network=resnet18_64",
    ):
        assert part in line
    assert "\n" not in line


def test_a_given_file_that_is_not_there(tmp_path, nowhere):
    with pytest.raises(UserError, match=r"imagenet_weights=.*mine.pth: there is no such file"):
        find_weights(str(tmp_path / "mine.pth"), None, nowhere, "")


@pytest.mark.parametrize("name", filter(starts_from_imagenet, BACKBONES))
def test_a_network_starts_from_the_file(tmp_path, state, name):
    torch.save(state, tmp_path / FILE)
    network = build_backbone(name, (3, 32, 32))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    start_from(network, tmp_path / FILE)
    for key, value in network.state_dict().items():
        if key.startswith("body."):
            assert torch.equal(value, state[key.removeprefix("body.")]), key
        else:
            assert torch.equal(value, before[key]), key
    whole = resnet18()
    whole.load_state_dict(state)
    whole.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 32, 32)
    assert isinstance(network, ResNet18)
    torch.testing.assert_close(network.body.eval()(images), whole.eval()(images))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda state: {**state, "layer1.0.conv1.weight": torch.zeros(3)}, "layer1.0.conv1.weight does not fit"),
        (lambda state: {"conv1.weight": state["conv1.weight"]}, "no weights of ResNet-18"),
        (lambda state: [1, 2], "something else than a state dict"),
        (lambda state: SimpleNamespace(x=1), "cannot be read as weights alone"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, state, made, says):
    torch.save(made(state), tmp_path / FILE)
    with pytest.raises(UserError, match=says):
        start_from(ResNet18(), tmp_path / FILE)


def test_a_file_cut_short(tmp_path, state):
    torch.save(state, tmp_path / FILE)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:5000])
    with pytest.raises(UserError, match="is it complete"):
        start_from(ResNet18(), tmp_path / FILE)
