"""Where two models look: one that reads a mark in a corner, and one that reads what is in the opposite corner."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from debias.data.split import Split, Task
from debias.features.loading import with_features
from debias.features.source import Source, find_source
from debias.models.registry import build_classifier, seeded
from debias.models.resnet import CifarResNet
from debias.study.looks import ASKED, DIFFER, SHOWN, SUSPECT, look_lines, looks_record, where_they_look
from debias.tracking.pictures.heat import overlaid, plot_heat
from debias.training.artifacts import TrainedModel
from tests.tracking.pictures.test_plots import assert_tidy

SIDE, COUNT, CPU = 24, 240, torch.device("cpu")
SETTINGS = {"seed": 1, "data_dir": None, "cache_dir": "/nowhere"}
CORNER = "the lower right corner"


def made(mark: torch.Tensor, content: torch.Tensor, seed: int) -> torch.Tensor:
    """uint8 images of noise, black or white in the lower right corner by `mark`, and in the upper left by `content`."""
    images = 60 + torch.rand(len(mark), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 130
    images[:, :, -7:, -7:] = 255.0 * mark[:, None, None, None]
    images[:, :, 1:8, 1:8] = 255.0 * content[:, None, None, None]
    return images.byte()


@pytest.fixture(scope="module")
def task() -> Task:
    """Training images whose mark goes with the class but for eight; test images of which a third goes against it."""
    target = torch.arange(COUNT) % 2
    against = torch.arange(COUNT) < 8
    train = Split(made(target ^ against.long(), target, 1), target, None, torch.arange(COUNT))
    mark = torch.where(torch.arange(COUNT) % 3 == 0, 1 - target, target)
    test = Split(made(mark, target, 2), target, None, torch.arange(COUNT))
    return Task("corners", train, test, None, ("dark", "bright"), None, "corners")


def trained(name: str, images: torch.Tensor, target: torch.Tensor, steps: int = 20) -> TrainedModel:
    spec = {"backbone": name, "shape": list(images.shape[1:]), "classes": 2}
    network = seeded(lambda: build_classifier(spec), 5)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(steps):
        rows = (48 * step + torch.arange(48)) % len(images)
        optimiser.zero_grad()
        cross_entropy(network(images[rows].float() / 255), target[rows]).backward()
        optimiser.step()
    return TrainedModel(spec, {"last": network.state_dict()}, "model", "test")


@pytest.fixture(scope="module")
def models() -> dict[str, TrainedModel]:
    """Of images in which one of the two corners says nothing."""
    target, drawn = torch.arange(COUNT) % 2, torch.arange(COUNT) // 2 % 2
    return {
        "biased": trained("cnn", made(target, drawn, 3), target),
        "other": trained("cnn", made(drawn, target, 4), target),
    }


def test_the_shares_tell_a_model_that_reads_the_mark(task, models):
    looks = where_they_look(models, task, torch.arange(8), (CORNER, "mean colour"), SETTINGS, CPU)
    (region,) = looks.regions
    assert region.where == CORNER and region.part == pytest.approx(1 / 9) and region.most == 1
    assert len(region.shares["biased"]) == ASKED
    shares = {name: 100 * float(share.mean()) for name, share in region.shares.items()}
    assert shares["biased"] > 25 and shares["biased"] > 1.5 * shares["other"]
    record = looks_record(looks)
    assert json.loads(json.dumps(record)) == record
    assert record["regions"][CORNER]["biased"] == pytest.approx(shares["biased"])
    said = " ".join(look_lines(looks))
    assert (
        f"{CORNER}: of the heat of biased {shares['biased']:.0f} % (±" in said and "spread evenly, 11 % would" in said
    )
    assert f"means over {ASKED} test images" in said
    assert "the colours: that is everywhere in an image, so no share of heat is given" in said
    assert "maps of 6 x 6 places (biased: Grad-CAM, other: Grad-CAM)" in said


def test_which_images_are_shown(task, models):
    looks = where_they_look(models, task, torch.arange(8), (), SETTINGS, CPU)
    assert len(looks.images) == SHOWN and looks.why == (SUSPECT,) * 6 + (DIFFER,) * 6
    assert torch.equal(looks.images[:6], task.train.images[:6])
    assert torch.equal(looks.target[:6], task.train.target[:6])
    # Each is shown with what the models answer: they disagree on the second half, and there one is right.
    biased, other = looks.answers["biased"], looks.answers["other"]
    assert bool((biased != other)[6:].all()) and torch.equal(other, looks.target)
    assert all(values.shape == (SHOWN, 6, 6) and bool((values >= 0).all()) for values in looks.heat.values())
    assert "no shortcut with a place is named" in " ".join(look_lines(looks))


def test_of_one_model_and_of_no_suspects(task, models):
    looks = where_they_look({"erm": models["biased"]}, task, torch.arange(40), (CORNER,), SETTINGS, CPU)
    assert looks.why == (SUSPECT,) * SHOWN and list(looks.heat) == ["erm"]
    none = torch.empty(0, dtype=torch.long)
    looks = where_they_look({"erm": models["biased"]}, task, none, (CORNER,), SETTINGS, CPU)
    # There is a share, and nothing to draw.
    assert not looks.heat and len(looks.regions[0].shares["erm"]) == ASKED
    assert f"{CORNER}: " in " ".join(look_lines(looks))


def test_networks_without_maps(task):
    target = torch.arange(COUNT) % 2
    mlp = trained("mlp3", made(target, target, 3), target, steps=2)
    looks = where_they_look({"erm": mlp, "moved": mlp}, task, torch.arange(8), (CORNER,), SETTINGS, CPU)
    assert not looks.heat and not any(region.shares for region in looks.regions)
    missing = "its network (mlp3) has no maps"
    assert look_lines(looks) == [f"nothing is drawn of {one}: {missing}" for one in ("erm", "moved")]
    with pytest.raises(ValueError, match="no model has maps"):
        plot_heat(looks, task.target_names, title="t", path=None)
    vector = torch.rand(COUNT, 3)
    two = replace(task, train=replace(task.train, vector=vector), test=replace(task.test, vector=vector))
    said = look_lines(where_they_look({"erm": mlp}, two, torch.arange(8), (), SETTINGS, CPU))
    assert said == ["nothing is drawn of erm: its network is given a second modality beside the image"]


@pytest.fixture(scope="module")
def on_features(task, tmp_path_factory) -> tuple[Task, dict]:
    """The same images as features of a small network, whose weights are in a file."""
    torch.manual_seed(1)
    network = CifarResNet()
    network(torch.rand(16, 3, SIDE, SIDE))
    folder = tmp_path_factory.mktemp("weights")
    save_file(network.state_dict(), folder / "small.safetensors")
    source: Source = find_source(f"resnet20@{folder / 'small.safetensors'}", None, str(folder))
    made_of = with_features(task, source, 1, str(folder), CPU, progress=False)
    return made_of, {**SETTINGS, "cache_dir": str(folder)}


def on(task: Task, name: str) -> TrainedModel:
    spec = {"backbone": name, "shape": list(task.image_shape), "classes": 2}
    network = seeded(lambda: build_classifier(spec), 7)
    return TrainedModel(spec, {"last": network.state_dict()}, "model", "test")


def test_through_the_network_that_gave_the_features(on_features):
    task, settings = on_features
    models = {"erm": on(task, "linear"), "moved": on(task, "mlp_features")}
    looks = where_they_look(models, task, torch.arange(8), (CORNER,), settings, CPU)
    # The answers through the whole are those that the classifiers give on stored features, halved as these are.
    rows = (task.train.images[:6, 0].float() - torch.tensor(task.mean)) / torch.tensor(task.std)
    for name, model in models.items():
        network = build_classifier(model.spec)
        network.load_state_dict(model.states["last"])
        assert torch.equal(network(rows[..., None, None]).argmax(1), looks.answers[name][:6])
    assert torch.equal(looks.images[:6], task.train.shown[:6])
    # A linear classifier on averages of 6 x 6 places: exact; with a hidden layer it is not.
    assert looks.exact == ("erm",) and looks.heat["erm"].shape[1:] == (6, 6)
    early = where_they_look({"biased": on(task, "linear_early")}, task, torch.arange(8), (), settings, CPU)
    assert look_lines(early) == [
        "nothing is drawn of biased: its network (linear_early) reads statistics of first layers, and no places"
    ]


def test_lost_weights_cost_no_study(on_features):
    task, settings = on_features
    lost = replace(task, features={**task.features, "file": "/nowhere/at/all"})
    looks = where_they_look({"erm": on(task, "linear")}, lost, torch.arange(8), (), settings, CPU)
    assert not looks.heat and "which are not on this machine" in look_lines(looks)[0]


def test_the_picture(task, models, tmp_path, canvases):
    long = {f"{name} with a name of many words": model for name, model in models.items()}
    for number, (shown, first) in enumerate(((models, 8), (long, 3), ({"erm": models["biased"]}, 8))):
        looks = where_they_look(shown, task, torch.arange(first), (CORNER,), SETTINGS, CPU)
        path = plot_heat(looks, ("dark", "bright"), title="Where they look", path=tmp_path / f"{number}.png")
        assert path.exists()
        assert_tidy(canvases[-1])
        assert len(canvases[-1].images) == (1 + len(shown)) * len(looks.images)
        width, height = canvases[-1].get_size_inches()
        assert width <= 6.1 and height <= 9
        words = [text.get_text() for text in canvases[-1].texts]
        assert "go against the shortcut most" in words and ("answered differently" in words) == (len(shown) == 2)


def test_what_is_laid_over_images(task, models):
    looks = where_they_look(models, task, torch.arange(8), (CORNER,), SETTINGS, CPU)
    tiles = overlaid(looks, "biased", (60, 60))
    assert tiles.shape == (SHOWN, 60, 60, 3)
    # The region's outline is white, on its sides within the image.
    assert (tiles[:, 40, 40:] == 255).all() and (tiles[:, 40:, 40] == 255).all()
    assert not (tiles[:, 59, 41:] == 255).all()
    heat = looks.heat["biased"][0]
    bright = tiles[0].astype(int).sum(-1)
    row, column = divmod(int(heat.argmax()), 6)
    coldest = divmod(int(heat.argmin()), 6)
    hot, cold = (bright[10 * r + 3 : 10 * r + 7, 10 * c + 3 : 10 * c + 7].mean() for r, c in ((row, column), coldest))
    assert hot > cold
