import json

import pytest
import torch

from debias.errors import UserError
from debias.models.lastblock import PARTS
from debias.models.onfeatures import EARLY
from debias.models.registry import BACKBONES, Classifier, build_backbone, build_classifier, seeded

SHAPE = (3, 44, 44)  # large enough for each of them


def shape_for(name: str) -> tuple[int, int, int]:
    """Of images, or of the features that the last block of a pretrained network takes."""
    return SHAPE if name not in PARTS else (4 * PARTS[name].channels + EARLY, 1, 1)


def images(n: int = 3, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_the_features_it_states(name: str) -> None:
    backbone = seeded(lambda: build_backbone(name, shape_for(name)), 0)
    features = backbone(images(shape=shape_for(name)))
    assert features.shape == (3, backbone.features)
    if name in ("linear", "linear_early"):
        assert torch.equal(features, images().flatten(1)) and not list(backbone.parameters())
        return
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_rebuilt_from_its_spec(name: str) -> None:
    spec = {"backbone": name, "shape": list(shape_for(name)), "classes": 7}
    given = images(shape=shape_for(name))
    first = build_classifier(spec).eval()
    again = build_classifier(json.loads(json.dumps(spec))).eval()
    again.load_state_dict(first.state_dict())
    assert torch.equal(again(given), first(given))
    assert first(given).shape == (3, 7)


def test_an_unknown_network_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'mlp55'.*mlp3.*did you mean mlp5"):
        build_backbone("mlp55", SHAPE)


def test_logits_are_the_head_of_the_features() -> None:
    network = build_classifier({"backbone": "mlp3", "shape": list(SHAPE), "classes": 10})
    assert isinstance(network, Classifier)
    assert torch.equal(network(images()), network.head(network.features(images())))
    assert torch.equal(network.features(images()), network.backbone(images()))


def test_a_seed_decides_the_weights_alone() -> None:
    def build(seed: int) -> torch.Tensor:
        return seeded(lambda: build_backbone("mlp3", SHAPE), seed).get_parameter("layers.1.weight")

    torch.manual_seed(5)
    first = build(1)
    torch.manual_seed(6)
    state = torch.get_rng_state()
    assert torch.equal(build(1), first)
    assert not torch.equal(build(2), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_second_modality_joins_the_features_in_front_of_the_head() -> None:
    spec = {"backbone": "mlp3", "shape": list(SHAPE), "classes": 10, "vector": 3}
    network, vector = build_classifier(spec), torch.rand(3, 3)
    features = network.features((images(), vector))
    assert torch.equal(features, torch.cat([network.backbone(images()), vector], dim=1))
    assert torch.equal(network((images(), vector)), network.head(features))
    # linear in the vector: twice the step, twice the change
    one, two = (network((images(), vector + step)) - network((images(), vector)) for step in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one, rtol=1e-4, atol=1e-5)
