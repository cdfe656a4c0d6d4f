"""Published files are read as data: arrays come out as they went in, and nothing in a file is ever called."""

import os
import pickle

import numpy as np
import pytest

from debias.data.loading import load_task
from debias.data.sources.released_jitter import find_file, read_released
from debias.errors import UserError


def content(n: int = 40) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2 * n, 28, 28, 3), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.int8)
    return {
        "train_image": images[:n],
        "train_label": labels,
        "test_image": images[n:],
        "test_label": labels,
        "test_gray": images[n:, ..., 0].copy(),
    }


def written(path, arrays, protocol: int):
    """As numpy.save writes a dictionary, by any protocol of pickle."""
    with path.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "|O", "fortran_order": False, "shape": ()})
        whole = np.empty((), dtype=object)
        whole[()] = arrays
        pickle.dump(whole, handle, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_a_published_dictionary_comes_out_as_it_went_in(tmp_path, protocol):
    found = read_released(written(tmp_path / "x.npy", content(), protocol))
    for name, array in content().items():
        np.testing.assert_array_equal(found[name], array)
    assert found["train_label"].dtype == np.int64


def test_a_converted_file_is_read_too(tmp_path):
    np.savez(tmp_path / "x.npz", **content())
    np.testing.assert_array_equal(read_released(tmp_path / "x.npz")["test_image"], content()["test_image"])


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_file_is_not_executed(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "x.npy", content() | {"train_label": Bomb()}, protocol)
    with pytest.raises(UserError, match="which is not part of an array.*ask for its arrays"):
        read_released(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_image": np.zeros((40, 28, 28), np.uint8)}, "train images are"),
        ({"test_label": np.full(40, 10)}, "test labels are not digits"),
        ({"test_gray": np.zeros((3, 28, 28), np.uint8)}, "test_gray is"),
    ],
)
def test_what_is_no_such_dictionary_is_refused(tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        read_released(written(tmp_path / "x.npy", content() | change, 2))


def test_damaged_and_missing_files(tmp_path):
    path = written(tmp_path / "x.npy", content(), 2)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read"):
        read_released(path)
    with pytest.raises(UserError, match=r"there is no mnist_10color_jitter_var_0\.020\.npy"):
        find_file(tmp_path, 0.02)


def test_as_a_data_set(tiny, tmp_path):
    written(tmp_path / "mnist_10color_jitter_var_0.020.npy", content(), 2)
    task = load_task(tiny("dataset=jitter_released", "variance=0.02", "limit=None", f"data_dir={tmp_path}"))
    assert (len(task.train), len(task.test), task.image_shape) == (40, 40, (3, 28, 28))
    assert (task.train.images.permute(0, 2, 3, 1).numpy() == content()["train_image"]).all()
    assert (task.extra_tests["grey"].images[:, 1].numpy() == content()["test_gray"]).all()
    assert task.train.bias is not None and task.test.bias is not None
