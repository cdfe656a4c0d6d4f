"""BFFHQ, DisEnt's archives and BAR: every layout loads, from folders and archives, and wrong names are listed."""

import shutil

import pytest
import torch

from debias.data.loading import load_task
from debias.data.photos import imagesets
from debias.errors import UserError
from tests import photos


def settings(tmp_path, dataset, **more):
    return {
        "dataset": dataset,
        "data_dir": str(tmp_path / "in"),
        "cache_dir": str(tmp_path / "cache"),
        "skew": 0.005,
        "severity": 4,
        "reverse": False,
        "valid_fraction": 0.0,
        "seed": 1,
        "limit": None,
        "image_size": 24,
        "progress": False,
        **more,
    }


@pytest.mark.parametrize("layout", ["dcwp", "denetdm"])
@pytest.mark.parametrize("place", ["bffhq", "", "bffhq.zip", "bffhq.tar.gz", "bffhq/inner", "inner.zip"])
def test_bffhq(tmp_path, layout, place):
    made = photos.bffhq(tmp_path / "made" / "bffhq", layout)
    target = tmp_path / "in" / ("bffhq" if "." in place else place)
    if place == "inner.zip":  # the folder itself packed
        shutil.make_archive(str(tmp_path / "in" / "bffhq"), "zip", made.parent, "bffhq")
    elif "." in place:
        shutil.make_archive(str(target), {"zip": "zip", "gz": "gztar"}[place.rsplit(".")[-1]], made)
    else:
        shutil.copytree(made, target)
    task = load_task(settings(tmp_path, "bffhq"))
    assert (len(task.train), len(task.test), task.valid) == (88, 24, None)
    assert task.target_names == ("young", "old") and task.bias_names == ("female", "male")
    assert task.image_shape == (3, 24, 24)
    # aligned images come first
    conflicting = task.train.bias != task.train.target
    assert conflicting.tolist() == [False] * 80 + [True] * 8
    assert torch.bincount(task.test.target * 2 + task.test.bias).tolist() == [6] * 4
    assert task.files is not None and task.preparation is not None
    for place_, name in enumerate(task.files):
        target_, bias = (int(part) for part in name.rsplit(".", 1)[0].rsplit("_", 2)[1:])
        assert (target_, bias) == (int(task.train.target[place_]), int(task.train.bias[place_]))


def test_the_content_names_the_data_wherever_it_lies(tmp_path):
    made = photos.bffhq(tmp_path / "in" / "bffhq")
    folder = load_task(settings(tmp_path, "bffhq"))
    shutil.make_archive(str(tmp_path / "packed" / "bffhq"), "zip", made)
    packed = load_task(settings(tmp_path, "bffhq", data_dir=str(tmp_path / "packed")))
    assert packed.key == folder.key
    everything = torch.arange(len(folder.train))
    assert torch.equal(packed.train.images[everything], folder.train.images[everything])
    photos.save(made / "test" / "1000_1_0.png", 1, 0, 1000)
    assert load_task(settings(tmp_path, "bffhq")).key != folder.key


@pytest.mark.parametrize(
    "change",
    [{"image_size": 20}, {"augment": "flip"}, {"reverse": True}, {"limit": 60}, {"own_valid": True},
     {"valid_fraction": 0.2}],
)  # fmt: skip
def test_what_changes_the_data_changes_its_key(tmp_path, change):
    photos.bffhq(tmp_path / "in" / "bffhq")
    assert load_task(settings(tmp_path, "bffhq", **change)).key != load_task(settings(tmp_path, "bffhq")).key


@pytest.mark.parametrize("change", [{"streaming": "always"}, {"threads": 1}, {"bad_files": "skip"}, {"seed": 2}])
def test_what_does_not_change_the_data_does_not_change_its_key(tmp_path, change):
    photos.bffhq(tmp_path / "in" / "bffhq")
    assert load_task(settings(tmp_path, "bffhq", **change)).key == load_task(settings(tmp_path, "bffhq")).key


def test_reverse_exchanges_target_and_bias(tmp_path):
    photos.bffhq(tmp_path / "in" / "bffhq")
    plain, reverse = (load_task(settings(tmp_path, "bffhq", reverse=word)) for word in (False, True))
    assert torch.equal(reverse.train.target, plain.train.bias) and torch.equal(reverse.train.bias, plain.train.target)
    assert reverse.target_names == ("female", "male") and reverse.bias_names == ("young", "old")


def test_images_for_validation_that_a_set_brings_have_a_selection_of_their_own(tmp_path):
    photos.bffhq(tmp_path / "in" / "bffhq")
    task = load_task(settings(tmp_path, "bffhq", own_valid=True))
    assert task.valid is not None and len(task.valid) == 24 and task.selection == "valid_given"
    held = load_task(settings(tmp_path, "bffhq", own_valid=True, valid_fraction=0.25))
    assert held.valid is not None and len(held.valid) == 22 and held.selection == "valid"


@pytest.mark.parametrize("streaming", ["always", "never"])
def test_limit(tmp_path, streaming):
    photos.bffhq(tmp_path / "in" / "bffhq")
    task = load_task(settings(tmp_path, "bffhq", limit=60, streaming=streaming)).to("cpu")
    assert (len(task.train), len(task.test)) == (60, 10)
    assert isinstance(task.train.images, torch.Tensor) is (streaming == "never")


def test_wrong_names_are_listed_or_left_out(tmp_path):
    root = photos.bffhq(tmp_path / "in" / "bffhq")
    wrong = {
        "0.5pct/align/0/5.png": "not <id>_<class>_<bias>",
        "0.5pct/align/0/90_1_1.png": "in the folder of class 0, but its name says class 1",
        "0.5pct/align/1/91_1_0.png": "in folder align, but its name says class 1, bias 0",
        "test/92_0_2.png": "class 0 of 2, bias 2 of 2",
        "test/93_0_1.txt": "not <id>_<class>_<bias>",
    }
    for name in wrong:
        photos.save(root / name, 0, 0, 1) if name.endswith("png") else (root / name).write_text("x")
    with pytest.raises(UserError, match="5 unusable files") as caught:
        load_task(settings(tmp_path, "bffhq"))
    for name, why in wrong.items():
        assert f"{root / name}: " in str(caught.value) and why in str(caught.value)
    assert "bad_files=skip" in str(caught.value)
    task = load_task(settings(tmp_path, "bffhq", bad_files="skip"))
    assert (len(task.train), len(task.test)) == (88, 24)
    assert "5 unusable files left out" in task.notes[0]
    # `valid` is not read unless asked for, so what is wrong there does not matter
    (root / "valid" / "nonsense.png").write_text("x")
    load_task(settings(tmp_path, "bffhq", bad_files="skip"))


def disent(root, shares=("0.5pct", "5pct")):
    for share in shares:
        for kind, biases in (("align", (0, 1, 2)), ("conflict", (1, 2, 0))):
            for target, bias in enumerate(biases):
                for number in range(3):
                    name = f"{number}_{target}_{bias}.png"
                    photos.save(root / share / kind / str(target) / name, target, bias, number + len(share), (28, 28))
                    photos.save(root / share / "valid" / f"9{name}", target, bias, number, (28, 28))
    for target in range(3):
        photos.save(root / "test" / str(target) / f"1_{target}_1.png", target, 1, 1, (28, 28))
    return root


@pytest.mark.parametrize(
    ("dataset", "folder", "size"), [("disent_mnist", "cmnist", 28), ("disent_cifar10", "cifar10c", 32)]
)
def test_disent(tmp_path, dataset, folder, size):
    shutil.make_archive(str(tmp_path / "in" / folder), "zip", disent(tmp_path / "made"))
    task = load_task(settings(tmp_path, dataset, skew=0.05, own_valid=True))
    assert (len(task.train), len(task.test), task.n_targets, task.n_biases) == (18, 3, 10, 10)
    assert task.valid is not None and len(task.valid) == 18
    assert task.image_shape == (3, size, size)
    assert all("/5pct/" in name for name in task.files)
    assert task.augment == (None if dataset == "disent_mnist" else "crop_flip")
    other = load_task(settings(tmp_path, dataset, skew=0.005))
    assert other.key != task.key and all("/0.5pct/" in name for name in other.files)
    with pytest.raises(UserError, match=r"skew=0.02: .* has no folder 2pct; .*: skew=0.005, skew=0.05"):
        load_task(settings(tmp_path, dataset, skew=0.02))


def test_classes_without_images_do_not_stop_a_published_set(tmp_path):
    """A set that is cut short is still of use to look at."""
    disent(tmp_path / "in" / "cmnist")
    assert len(load_task(settings(tmp_path, "disent_mnist")).train.target.unique()) == 3


def test_bar(tmp_path):
    photos.bar(tmp_path / "in" / "bar")
    task = load_task(settings(tmp_path, "bar"))
    assert (len(task.train), len(task.test), task.n_targets, task.n_biases) == (48, 24, 6, 0)
    assert task.train.bias is None and task.bias_names is None
    assert task.target_names[3] == "pole vaulting" and task.augment == "resized_crop_flip"
    (tmp_path / "in" / "bar" / "train" / "swimming_1.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"swimming_1.jpg: wrongly named: not <action>_<number>.jpg"):
        load_task(settings(tmp_path, "bar"))
    with pytest.raises(UserError, match="reverse: bar has no bias labels"):
        load_task(settings(tmp_path, "bar", bad_files="skip", reverse=True))


def test_ensemble_bar(tmp_path):
    """Conflicting images of the wanted share alone; nobody said where they were taken, only that it is elsewhere."""
    root = photos.ensemble_bar(tmp_path / "in" / "bar")
    task = load_task(settings(tmp_path, "ensemble_bar", skew=0.05))
    assert (len(task.train), len(task.test), task.n_targets, task.n_biases) == (60, 12, 6, 7)
    assert task.train.bias is not None and task.test.bias is not None and task.valid is None
    away = task.train.bias == 6
    assert [str(path).count("/conflict/5pct/") for path in task.files] == away.int().tolist() and away.sum() == 12
    assert torch.equal(task.train.bias[~away], task.train.target[~away])
    assert (task.test.bias == 6).all()
    assert (
        task.ties is not None
        and task.ties[:, 6].tolist() == [-1] * 6
        and task.ties[:, :6].diagonal().tolist() == [1] * 6
    )
    assert task.augment == "crop_flip" and task.bias_names[6] == "another place"
    other = load_task(settings(tmp_path, "ensemble_bar", skew=0.01, own_valid=True))
    assert len(other.train) == 54 and other.valid is not None and len(other.valid) == 12 and other.key != task.key
    with pytest.raises(UserError, match=r"skew=0.02: .* has no folder 2pct; .*: skew=0.01, skew=0.05"):
        load_task(settings(tmp_path, "ensemble_bar", skew=0.02))
    (root / "train" / "align" / "4").rename(root / "train" / "align" / "Racing")
    assert len(load_task(settings(tmp_path, "ensemble_bar", skew=0.05)).train) == 60
    photos.save(root / "train" / "align" / "7" / "bar_7_1.jpg", 0, 0, 1)
    with pytest.raises(UserError, match=r"bar_7_1.jpg: not an image in a folder 0 to 5 or climbing"):
        load_task(settings(tmp_path, "ensemble_bar", skew=0.05))


@pytest.mark.parametrize("dataset", [spec.name for spec in imagesets.SPECS if spec.name != "own_images"])
def test_nothing_there(tmp_path, monkeypatch, dataset):
    monkeypatch.delenv("DATA_DIR", raising=False)
    with pytest.raises(UserError, match=f"{dataset} needs its files: set data_dir"):
        load_task(settings(tmp_path, dataset, data_dir=None))
    with pytest.raises(UserError, match="no such folder"):
        load_task(settings(tmp_path, dataset))
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=f"(?s){dataset} was not found: neither .*Put "):
        load_task(settings(tmp_path, dataset))


@pytest.mark.parametrize("missing", ["test", "0.5pct"])
def test_a_part_that_is_missing(tmp_path, missing):
    root = photos.bffhq(tmp_path / "in" / "bffhq")
    shutil.rmtree(root / missing)
    with pytest.raises(UserError, match=f"holds no {'test' if missing == 'test' else 'train'} images of bffhq"):
        load_task(settings(tmp_path, "bffhq"))
