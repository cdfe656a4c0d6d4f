from pathlib import Path

import numpy as np
import pytest
import torch

from debias.data.generated import colored
from debias.data.loading import load_task
from debias.data.photos import imagesets
from debias.data.registry import DATASETS
from debias.data.sources.digits import digits
from debias.data.sources.idx import IDX_FILES, mnist
from debias.errors import UserError
from tests.data.sources.test_cifar import write_tree
from tests.pipeline import written


def write_set(folder: Path) -> None:
    """Write 120 + 30 grey images, 12 + 3 of each class, as plain IDX files."""
    folder.mkdir(parents=True)
    for part, n in enumerate((120, 30)):
        images = np.random.default_rng(part).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for (stem, _), array in zip(IDX_FILES[2 * part :], (images, np.arange(n, dtype=np.uint8) % 10), strict=False):
            header = np.array([0x0800 + array.ndim, *array.shape], dtype=">u4")
            (folder / stem).write_bytes(header.tobytes() + array.tobytes())


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    write_set(tmp_path / "in" / "mnist")
    return {
        "dataset": "colored_mnist",
        "data_dir": str(tmp_path / "in"),
        "cache_dir": str(tmp_path / "cache"),
        "skew": 0.1,
        "severity": 1,
        "type": 0,
        "reverse": False,
        "valid_fraction": 0.0,
        "seed": 0,
        "limit": None,
    }


def test_the_second_load_comes_from_the_cache(settings, tmp_path):
    first, before = load_task(settings), written(tmp_path)
    second = load_task(settings)
    assert written(tmp_path) == before != {}
    assert first.key == second.key
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.target, other.target)
        assert torch.equal(one.ids, other.ids)
    assert second.name == "colored_mnist"


def test_cached_equals_built(settings):
    loaded = load_task(settings)
    source = mnist(settings["data_dir"], settings["cache_dir"])
    built = colored.build_arrays(source, 0.1, 1, 0)
    assert torch.equal(loaded.train.images, torch.from_numpy(built["train_images"]))


def test_tensors_do_not_share_memory_with_the_cache(settings):
    before = load_task(settings).train.images.clone()
    load_task(settings).train.images.zero_()
    assert torch.equal(load_task(settings).train.images, before)


@pytest.mark.parametrize(
    "change",
    [{"skew": 0.2}, {"severity": 2}, {"seed": 1}, {"reverse": True}, {"valid_fraction": 0.25}, {"limit": 60}],
)
def test_every_setting_is_in_the_key(settings, change):
    assert load_task(settings).key != load_task(settings | change).key


def test_the_held_out_share_is_in_the_key(settings):
    assert load_task(settings | {"valid_fraction": 0.25}).key != load_task(settings | {"valid_fraction": 0.5}).key


def test_hold_out_comes_from_the_training_images(settings):
    whole = load_task(settings)
    task = load_task(settings | {"valid_fraction": 0.25})
    assert whole.valid is None
    assert task.valid is not None
    # 12 images a class, 3 of them held out.
    assert torch.bincount(task.valid.target).tolist() == [3] * 10
    assert sorted([*task.train.ids.tolist(), *task.valid.ids.tolist()]) == list(range(120))
    for split in (task.train, task.valid):
        # In this source the id is the position, so it leads back to the whole set.
        assert torch.equal(split.images, whole.train.images[split.ids])
        assert split.bias is not None
        assert whole.train.bias is not None
        assert torch.equal(split.bias, whole.train.bias[split.ids])
    assert torch.equal(task.test.images, whole.test.images)


def test_limit_comes_before_the_bias(settings):
    task = load_task(settings | {"limit": 60, "skew": 1.0})
    assert (len(task.train), len(task.test)) == (60, 10)
    assert task.train.bias is not None
    assert not task.train.target.eq(task.train.bias).any()
    assert task.train.ids.max() > 60


def test_data_dir_falls_back_to_the_environment(settings, monkeypatch):
    monkeypatch.setenv("DATA_DIR", settings["data_dir"])
    assert len(load_task(settings | {"data_dir": None}).train) == 120


def test_fashion(settings, tmp_path):
    write_set(tmp_path / "in" / "FashionMNIST" / "raw")
    task = load_task(settings | {"dataset": "colored_fashion"})
    assert task.target_names[1] == "trouser"


def test_digits_need_no_files(settings, cache_dir):
    task = load_task(settings | {"dataset": "colored_digits", "data_dir": None, "limit": 300, "cache_dir": cache_dir})
    assert (len(task.train), len(task.test), task.n_targets) == (300, 50, 10)


def test_every_listed_data_set_loads_or_says_why_not(settings, tmp_path, cache_dir):
    digits(cache_dir)
    (tmp_path / "cache").mkdir()
    for built in cache_dir.glob("digits-*/"):
        (tmp_path / "cache" / built.name).symlink_to(built)
    write_set(tmp_path / "in" / "fashion-mnist")
    write_tree(tmp_path / "in" / "cifar10")
    images, labels = np.zeros((12, 28, 28, 3), np.uint8), np.arange(12) % 10
    released = {"train_image": images, "train_label": labels, "test_image": images, "test_label": labels}
    file = tmp_path / "in" / "mnist_10color_jitter_var_0.030.npz"
    np.savez(file, **released, test_gray=images[..., 0])
    for name, spec in DATASETS.items():
        assert spec.name == name
        assert spec.summary
        if name in {spec.name for spec in imagesets.SPECS} or name.startswith("lff_"):
            continue  # their files have tests of their own
        few = {"limit": 120} if "digits" in name else {}
        assert len(load_task(settings | {"dataset": name} | few).test) > 0


def test_unknown_data_set(settings):
    with pytest.raises(UserError, match=r"'colored_mnits' is unknown; did you mean colored_mnist\?; available: "):
        load_task(settings | {"dataset": "colored_mnits"})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"skew": 2}, "skew=2"), ({"severity": 7}, "severity=7"), ({"valid_fraction": 1}, "valid_fraction=1")],
)
def test_settings_out_of_range(settings, change, message):
    with pytest.raises(UserError, match=message):
        load_task(settings | change)


def test_corrupted_cifar10(settings, tmp_path):
    write_tree(tmp_path / "in" / "cifar10")
    settings |= {"dataset": "corrupted_cifar10", "severity": 4}
    task = load_task(settings)
    assert (task.name, task.image_shape, task.n_targets, task.n_biases) == ("corrupted_cifar10", (3, 32, 32), 10, 10)
    assert (task.augment, task.mean, task.std) == ("crop_flip", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert task.target_names[0] == "airplane" and task.bias_names is not None and task.bias_names[0] == "snow"
    changes = [{"type": 1}, {"severity": 0}, {"seed": 1}, {"reverse": True}, {"skew": 0.5}, {"placement": "last"}]
    changes += [{"limit": 12}]
    assert len({task.key, *(load_task(settings | change).key for change in changes)}) == 1 + len(changes)
    back = load_task(settings | {"reverse": True})
    assert task.train.bias is not None
    assert back.bias_names == task.target_names and torch.equal(back.train.target, task.train.bias)
    before = written(tmp_path)
    assert torch.equal(load_task(settings).train.images, task.train.images)
    assert written(tmp_path) == before
    with pytest.raises(UserError, match="severity=5"):
        load_task(settings | {"severity": 5})
