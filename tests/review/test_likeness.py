"""Which images are alike, and the map: by features as a run had them, else by coarse pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from debias import main
from debias.data.mapped import MappedImages
from debias.models.resnet import CifarResNet
from debias.review.likeness import Likeness, coarse, main_directions, scaled
from tests.photos import class_folders


def clusters(count=90, width=40):
    """Three clouds far apart, in turn."""
    generator = torch.Generator().manual_seed(3)
    centres = 4 * torch.randn(3, width, generator=generator)
    return centres[torch.arange(count) % 3] + torch.randn(count, width, generator=generator)


def test_those_of_the_same_cloud_are_nearest():
    found = Likeness(clusters, "made")
    for place in range(6):
        near = found.near(place)
        assert near[place] == pytest.approx(0, abs=1e-5)
        assert set(np.argsort(near)[:30] % 3) == {place % 3}


def test_the_map_is_that_of_a_singular_value_decomposition():
    rows = clusters()
    found = main_directions(rows)
    left, values, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    exact = left * values
    for direction in range(2):
        match = np.corrcoef(found[:, direction], exact[:, direction].numpy())[0, 1]
        assert abs(match) > 0.9999
    assert np.array_equal(found, main_directions(rows))


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 1), (64, 1), (5, 300)])
def test_few_images_or_values_have_a_map_too(shape):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = Likeness(lambda: rows, "made").map()
    assert found.shape == (shape[0], 2) and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_values_that_are_all_alike_are_no_harm():
    found = Likeness(lambda: torch.ones(7, 4), "made")
    assert np.isfinite(found.near(0)).all() and np.isfinite(found.map()).all()


def test_a_few_far_out_do_not_press_the_rest():
    places = np.random.default_rng(1).random((1000, 2))
    places[0] = 1e6
    assert scaled(places)[1:].std(0).min() > 0.2


def test_coarse_pixels_are_mean_colours():
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mapped = MappedImages([images.numpy()], torch.arange(3))
    found = coarse(mapped).view(3, 3, 8, 8)
    assert torch.allclose(found[1, 2, 3, 4], images[1, 2, 12:16, 16:20].float().mean() / 255)
    assert torch.equal(coarse(images), coarse(mapped))


def test_vectors_are_computed_once_and_when_asked_for():
    calls = []

    def embed():
        calls.append(1)
        return clusters()

    found = Likeness(embed, "made")
    assert calls == []
    found.near(1), found.map(), found.near(2)
    assert calls == [1]


@pytest.mark.recipe
def test_a_run_on_features_is_compared_by_them(tmp_path, served):
    """From the photographs to the page: mined on features, which the page finds in the cache."""
    class_folders(tmp_path / "photos", each=30)
    torch.manual_seed(1)
    network = CifarResNet()
    network(torch.rand(16, 3, 32, 32))
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    words = [
        "own_images", f"data_dir={tmp_path / 'photos'}", f"features=resnet20@{tmp_path / 'small.safetensors'}",
        "gce_balanced", "device=cpu", "threads=1", "progress=False", "image_size=32", f"cache_dir={tmp_path / 'cache'}",
        f"store={tmp_path / 'runs'}",
    ]  # fmt: skip
    assert main.main(["mine", "with", *words]) == 0

    class Run:
        folder = tmp_path / "runs" / "1"

    before = sorted(path.name for path in (tmp_path / "cache").rglob("*.safetensors"))
    with served(Run()) as ask:
        state = ask("state")[1]
        assert state["likeness"] == "features: resnet20, weights small.safetensors"
        said = ask(f"near/{state['id'][2]}")[1]
        assert said["distance"][2] == min(said["distance"]) < 0.001 and ask("map/pca")[0] == 200
    # Nothing was embedded anew.
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*.safetensors")) == before
    # Weights that are gone: pixels take their place.
    (tmp_path / "small.safetensors").unlink()
    with served(Run()) as ask:
        assert ask("state")[1]["likeness"] == "coarse pixels"
    assert json.loads((Path(Run.folder) / "config.json").read_text())["features"].startswith("resnet20@")
