"""The last block of a pretrained network trained by methods, from the command line to predictions."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from debias import main
from debias.config import Defaults, resolve
from debias.data.kinds import LAST_BLOCK
from debias.features.source import find_source
from debias.models.onfeatures import EARLY
from debias.models.resnet import ResNet18
from debias.stages.recipes import RECIPES, STAGES
from tests.photos import class_folders

SIZE = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    class_folders(folder / "photos", each=20)
    torch.manual_seed(1)
    save_file(ResNet18().state_dict(), folder / "r18.safetensors")
    return folder


def words(place: Path, *more: str, features: str = "resnet18_tuned") -> list[str]:
    return [
        "own_images", f"data_dir={place / 'photos'}", f"features={features}@{place / 'r18.safetensors'}", "device=cpu",
        "threads=1", "progress=False", "pictures=False", f"image_size={SIZE}", f"cache_dir={place / 'cache'}",
        f"store={place / 'runs'}", *more,
    ]  # fmt: skip


def newest(place: Path) -> Path:
    return max((path for path in (place / "runs").iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


@pytest.mark.recipe
def test_it_starts_from_the_file_and_is_trained_evaluated_and_used(place: Path, capfd) -> None:
    assert main.main(["with", *words(place, "erm", "pretrain.epochs=1", "pretrain.learning_rate=0")]) == 0
    started = load_file(newest(place) / "weights.safetensors")
    own = {name.split("whole.")[1]: value for name, value in started.items() if "whole." in name}
    given = load_file(place / "r18.safetensors")
    kept = [name for name in own if "running" not in name and "num_batches" not in name]
    assert len(kept) == 6 and all(torch.equal(own[name], given[name]) for name in kept)
    assert all(name.startswith("body.layer4.1.") for name in own)
    assert main.main(["with", *words(place, "erm", "pretrain.epochs=2")]) == 0
    run = newest(place)
    trained = load_file(run / "weights.safetensors")
    changed = [name for name in trained if name.endswith("layer4.1.conv2.weight")]
    assert len(changed) == 1 and not torch.equal(trained[changed[0]], given["body.layer4.1.conv2.weight"])
    figures = json.loads((run / "info.json").read_text(encoding="utf-8"))["summary"]
    weights, common = f"checkpoint={run / 'weights.safetensors'}", words(place)[2:]
    assert main.main(["evaluate", "with", *words(place, weights)]) == 0
    again = json.loads((newest(place) / "info.json").read_text(encoding="utf-8"))["summary"]
    assert [value for name, value in again.items() if name.startswith("model/average/")] == pytest.approx(
        [figures["model/average/last"]]
    )
    for command in (["predict", f"folder={place / 'photos'}"], ["export"]):
        out = place / command[0]
        rest = [*common[1:], weights, f"output={out}", *command[1:]]
        assert main.main([command[0], "with", "own_images", *rest]) == 0, capfd.readouterr().err
    assert (place / "predict" / "predictions.csv").stat().st_size and (place / "export" / "model.pt2").stat().st_size


@pytest.mark.recipe
@pytest.mark.parametrize("method", ["gce_balanced", "jtt", "property_moved", "lff", "afr"])
def test_other_methods_run_on_it(place: Path, method: str) -> None:
    stages = [STAGES[name] for name in RECIPES[method].stages]
    budgets = [f"{stage.name}.epochs=2" for stage in stages if "epochs" in stage.settings]
    assert main.main(["with", *words(place, method, *budgets)]) == 0


def settings_of(place: Path, method: str, **more) -> dict:
    fixed = {"dataset": "own_images", "method": method, "data_dir": str(place), **more}
    return resolve(Defaults()(fixed={"features": "efficientnet_lite0_tuned"} | fixed))


def test_defaults_are_those_of_a_network_that_has_weights(place: Path) -> None:
    own = settings_of(place, "erm")["pretrain"]
    assert own["network"] == "efficientnet_lite0_last" and {name: own[name] for name in LAST_BLOCK} == LAST_BLOCK
    linear = settings_of(place, "erm", features="efficientnet_lite0")["pretrain"]
    assert linear["network"] == "linear" and linear["weight_decay"] == 0.1
    moved, miner = (settings_of(place, "property_moved")[name] for name in ("moved", "mine_gce"))
    assert moved["network"] == "efficientnet_lite0_last" and moved["weight_decay"] == LAST_BLOCK["weight_decay"]
    # The miner looks at the first layers, which are not trained.
    assert miner["network"] == "linear_early" and miner["weight_decay"] == 0.3
    assert settings_of(place, "dcwp")["pretrain"]["network"] == "mlp_features"


@pytest.mark.parametrize("network", ["resnet18_last", "efficientnet_lite0_last"])
def test_the_block_of_another_network_is_refused_before_images_are_read(place: Path, capfd, network: str) -> None:
    features = "resnet18" if network == "resnet18_last" else "resnet18_tuned"
    more = ["erm", f"pretrain.network={network}", "data_dir=nowhere"]
    assert main.main(["with", *words(place, *more, features=features)]) == 2
    assert f"set features={network.removesuffix('_last')}_tuned" in capfd.readouterr().err


def test_the_values_of_the_block_are_taken_as_they_are(place: Path) -> None:
    from debias.features.loading import load_inputs

    given = {"features": f"resnet18_tuned@{place / 'r18.safetensors'}", "image_size": SIZE, "progress": False}
    data = {"data_dir": str(place / "photos"), "cache_dir": str(place / "cache"), "device": "cpu", "threads": 1}
    task = load_inputs(resolve(Defaults()(fixed={"dataset": "own_images", "method": "erm", **given, **data})))
    assert task.image_shape == (512 * 4 + EARLY, 1, 1)
    assert set(task.mean[:-EARLY]) == {0.0} and set(task.std[:-EARLY]) == {1.0}
    assert len(set(task.std[-EARLY:])) > 10


def test_a_file_without_that_network_is_named(tmp_path: Path, place: Path) -> None:
    from debias.errors import UserError

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    source = find_source(f"resnet18_tuned@{tmp_path / 'other.safetensors'}", None, "")
    with pytest.raises(UserError, match="tensors are not those of resnet18_tuned"):
        source.build(SIZE)
