"""Training on images with the shortcut of others: what is moved, by whom, and that the shortcut is unlearnt."""

import pytest
import torch
from safetensors.torch import save_file

from debias.data.operators import OPERATORS
from debias.data.operators.base import moved
from debias.data.preparation import Preparation
from debias.data.split import Split, Task
from debias.features.embed import embedded
from debias.features.loading import with_features
from debias.features.source import find_source
from debias.models.resnet import CifarResNet
from debias.randomness import stream
from debias.stages.moved import donors_of, moved_features
from tests.pipeline import short

CPU = torch.device("cpu")
NAMED = 'mine_property.property="mean colour"'


@pytest.mark.recipe
def test_the_shortcut_is_unlearnt(run_tiny):
    """Digits in the colour of their class: with the colours of others, colours say nothing, and digits are learnt."""
    words = ("pretrain.epochs=10", "moved.epochs=10", "moved.batch_size=32", "skew=0.02", "limit=1500")
    plain = run_tiny("method=erm", "pretrain.network=mlp3", "pretrain.batch_size=32", *words).summary
    given = run_tiny("method=property_moved", NAMED, *words)
    assert given.summary["model/unbiased/last"] > plain["model/unbiased/last"] + 15
    assert given.stages["moved"].report.augmentation == "channel_means"


def test_without_a_property_it_is_plain_training(run_tiny):
    """All colours equally frequent: nothing is moved, and nothing is called an augmentation."""
    given = run_tiny(*short("property_moved", 1), "skew=0.9")
    assert given.stages["moved"].report.augmentation == ""
    score = given.artifacts["conflict_score"]
    assert not bool((score.score > score.threshold).any())
    assert set(given.artifacts["bias"].label.tolist()) == {0}


def test_features_are_those_of_moved_images_by_donors_of_any_class(tmp_path):
    torch.manual_seed(1)
    network = CifarResNet()
    network(torch.rand(16, 3, 32, 32))
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    source = find_source(f"resnet20@{tmp_path / 'small.safetensors'}", None, str(tmp_path))
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    target = torch.arange(40) // 20
    split = Split(images, target, None, torch.arange(40))
    task = Task("made", split, split, None, ("a", "b"), None, "key", preparation=Preparation(32))
    task = with_features(task, source, 1, str(tmp_path / "cache"), CPU, progress=False)
    settings = {"data_dir": None, "cache_dir": str(tmp_path / "cache"), "threads": 1}
    apply = OPERATORS["border"].apply
    donors = donors_of(len(task.train), 2, 7)
    found = moved_features(task, task.train, apply, "the border", donors, settings, CPU, progress=False)
    assert found.shape[:2] == (40, 2) and found.shape[2] == task.train.images.shape[2]
    for copy in range(2):
        donors = torch.randint(40, (40,), generator=stream(7, f"donors {copy}"))
        # Of both classes, and not their own images.
        assert 0.2 < float((target[donors] != target).float().mean()) < 0.8
        wanted = embedded(
            [moved(apply, images, donors)],
            source,
            1,
            str(tmp_path / "other"),
            CPU,
            workers=1,
            progress=False,
        )[0][:, 0]
        assert torch.equal(found[:, copy], wanted)
    assert not torch.equal(found[:, 0], found[:, 1]) and not torch.equal(found[:, 0], task.train.images[:, 0])
