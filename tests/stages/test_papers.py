"""The defaults on images against the papers' tables, and networks that start from ImageNet's weights in a run."""

from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet18

from debias.catalogue import default_for
from debias.errors import UserError
from debias.models import pretrained
from debias.stages.recipes import STAGES, stages_of
from debias.training.walk import imagenet_weights, stage_key

# DeNetDM, supplementary table 12 and released code: stage, setting, Corrupted CIFAR-10, BFFHQ.
DENETDM = [
    ("branches", "shallow", "shallow_cifar", "shallow_faces"),
    ("branches", "deep", "resnet20", "resnet18"),
    ("branches", "epochs", 100, 10),
    ("branches", "batch_size", 256, 64),
    ("branches", "learning_rate", 1e-3, 1e-3),
    ("branches", "weight_decay", 1e-3, 0.0),
    ("distill", "network", "resnet18_imagenet_64", "resnet18_imagenet"),
    ("distill", "epochs", 200, 100),
    ("distill", "batch_size", 256, 64),
    ("distill", "learning_rate", 1e-4, 1e-4),
    ("distill", "weight_decay", 0.0, 0.0),
    ("distill", "poe_weight", 1.0, 1.0),
    ("distill", "dist_weight", 1.0, 0.0),
    ("distill", "temperature", 2.0, 2.0),
]
# DCWP, its scripts: stage, setting, Corrupted CIFAR-10, BFFHQ, CelebA.
DCWP = [
    ("pretrain", "network", *["resnet18_imagenet"] * 3),
    ("pretrain", "batch_size", 256, 64, 128),
    ("pretrain", "learning_rate", 1e-3, 1e-3, 1e-4),
    ("pretrain", "steps", 10000, 10000, 10000),
    ("pretrain", "beta2", 0.99, 0.99, 0.99),
    ("pretrain", "weight_decay", 0.0, 0.0, 0.0),
    ("prune", "batch_size", 256, 64, 128),
    ("prune", "learning_rate", 1e-2, 1e-2, 1e-2),
    ("prune", "steps", 2000, 2000, 2000),
    ("prune", "sparsity_weight", 1e-9, 1e-9, 5e-6),
    ("prune", "contrastive_weight", 0.05, 0.05, 0.05),
    ("prune", "upweight", 80.0, 80.0, 80.0),
    ("prune", "beta2", 0.999, 0.999, 0.999),
    ("finetune", "batch_size", 256, 64, 128),
    ("finetune", "learning_rate", 5e-4, 5e-4, 5e-4),
    ("finetune", "steps", 1000, 1000, 1000),
    ("finetune", "contrastive_weight", 0.05, 0.05, 0.05),
    ("finetune", "upweight", None, 80.0, 20.0),  # by the skew on Corrupted CIFAR-10
    ("finetune", "start", "trained", "trained", "trained"),
]
MINING = {
    "corrupted_cifar10": ("mine_ensemble", {"eta": 0.05, "tau": 0.8, "batch_size": 256, "learning_rate": 1e-3}),
    "bffhq": ("mine_gce", {"q": 0.7, "batch_size": 64, "learning_rate": 1e-3, "steps": 10000, "optimiser": "adam"}),
    "celeba": ("mine_gce", {"q": 0.7, "batch_size": 128, "learning_rate": 1e-4, "steps": 10000, "optimiser": "adam"}),
}


def default(stage: str, name: str, method: str, dataset: str):
    return default_for(f"{stage}.{name}", method, dataset)


@pytest.mark.parametrize(("stage", "name", "cifar", "faces"), DENETDM)
def test_denetdm(stage, name, cifar, faces):
    for dataset in ("corrupted_cifar10", "disent_cifar10"):
        assert default(stage, name, "denetdm", dataset) == cifar
    for dataset in ("bffhq", "bar", "own_images"):
        assert default(stage, name, "denetdm", dataset) == faces


def test_the_deep_branch_on_celeba_starts_from_imagenet():
    assert default("branches", "deep", "denetdm", "celeba") == "resnet18_imagenet"
    assert default("branches", "shallow", "denetdm", "celeba") == "shallow_faces"


@pytest.mark.parametrize(("stage", "name", "cifar", "faces", "celeba"), DCWP)
def test_dcwp(stage, name, cifar, faces, celeba):
    for dataset, value in (
        ("corrupted_cifar10", cifar),
        ("disent_cifar10", cifar),
        ("bffhq", faces),
        ("celeba", celeba),
    ):
        assert default(stage, name, "dcwp", dataset) == value, dataset


@pytest.mark.parametrize("dataset", MINING)
def test_dcwp_mines_as_on_its_data_set(dataset):
    stage, settings = MINING[dataset]
    assert [found.name for found in stages_of("dcwp", None, dataset)] == ["pretrain", stage, "prune", "finetune"]
    assert stages_of("dcwp", "mine", dataset)[-1].name == stage
    for name, value in settings.items():
        assert default(stage, name, "dcwp", dataset) == value, name
    assert default(stage, "network", "dcwp", dataset) == "resnet18_imagenet"
    # About 10,000 steps: 51 passes of 196.
    if stage == "mine_ensemble":
        assert abs(default(stage, "epochs", "dcwp", dataset) * 196 - 10_000) < 196


def test_elsewhere_dcwp_is_as_it_was():
    assert [stage.name for stage in stages_of("dcwp", None, "colored_mnist")][1] == "mine_gce"
    assert default("pretrain", "network", "dcwp", "colored_mnist") == "cnn"
    assert default("mine_gce", "optimiser", "dcwp", "colored_mnist") == "sgd"
    assert default("pretrain", "batch_size", "erm", "colored_mnist") == 64


@pytest.mark.parametrize("method", ["erm", "lff", "jtt", "group_dro", "bias_balanced", "mrm"])
@pytest.mark.parametrize("dataset", ["corrupted_cifar10", "bffhq", "celeba", "bar", "own_images"])
def test_baselines_train_the_papers_network_and_a_small_one_in_little_time(method, dataset):
    for stage in stages_of(method, None, dataset):
        if "network" in stage.settings:
            path = f"{stage.name}.network"
            assert default_for(path, method, dataset) == "resnet18_imagenet"
            assert default_for(path, method, dataset, quick=True) in ("resnet20", "resnet18")


def test_networks_of_the_small_budget_fit_together():
    for dataset in ("corrupted_cifar10", "bffhq", "celeba", "bar", "own_images"):
        names = [
            default_for(f"{stage}.{name}", "denetdm", dataset, quick=True)
            for stage, name in (("branches", "shallow"), ("branches", "deep"), ("distill", "network"))
        ]
        assert not any(pretrained.starts_from_imagenet(name) for name in names)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(resnet18().state_dict(), path)
    return path


def test_first_weights_come_from_the_file_and_are_in_the_key(run_tiny, tiny, task, weights, tmp_path):
    """Trained with a learning rate of zero, a network is what it started from."""
    words = ("erm", "pretrain.network=resnet18_imagenet", "pretrain.epochs=1", "pretrain.learning_rate=0.0")
    words += ("pretrain.batch_size=100", f"imagenet_weights={weights}")
    small = task.train.subset(torch.arange(100))
    outcome = run_tiny(*words, task=replace(task, train=small, valid=None))
    state = outcome.artifacts["model"].states["last"]
    given = torch.load(weights, weights_only=True)
    for name, value in given.items():
        if name.endswith("weight") and not name.startswith("fc"):
            assert torch.equal(state[f"backbone.body.{name}"], value), name

    stage, settings, cpu = STAGES["pretrain"], tiny(*words), torch.device("cpu")
    other = tmp_path / "other.pth"
    other.write_bytes(weights.read_bytes() + b" ")
    keys = [stage_key(stage, task, settings, cpu, {}, path) for path in (weights, other, None)]
    assert len(set(keys)) == 3
    plain = tiny("erm", "pretrain.network=resnet18")
    assert stage_key(stage, task, plain, cpu, {}, weights) == stage_key(stage, task, plain, cpu, {}, None)


def test_missing_weights_are_said_before_anything_is_trained(tiny, monkeypatch, no_network, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    settings = tiny("denetdm", "distill.network=resnet18_imagenet_64") | {"data_dir": None, "cache_dir": str(tmp_path)}
    with pytest.raises(UserError, match="start from random weights: distill.network=resnet18_64"):
        imagenet_weights(stages_of("denetdm"), settings)
    # Only stages that run need them.
    assert imagenet_weights(stages_of("denetdm", "branches"), settings) is None
