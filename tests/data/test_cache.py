import json
import threading
import time

import numpy as np
import pytest

from debias.data.cache import cached, key_of
from debias.errors import UserError

KEY = "ab" * 32


def build():
    return {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "target": np.array([3, 4])}


def fail():
    raise AssertionError("built again although it is stored")


def folder_of(cache_dir):
    return cache_dir / f"set-{KEY[:20]}"


def test_built_once_then_opened(tmp_path):
    first = cached(tmp_path / "new" / "cache", "set", KEY, build)
    second = cached(tmp_path / "new" / "cache", "set", KEY, fail)
    for arrays in (first, second):
        assert arrays.keys() == {"images", "target"}
        for name, expected in build().items():
            np.testing.assert_array_equal(arrays[name], expected)
            assert arrays[name].dtype == expected.dtype
            assert isinstance(arrays[name], np.memmap)
            assert not arrays[name].flags.writeable


def test_another_key_is_another_set(tmp_path):
    cached(tmp_path, "set", KEY, build)
    other = cached(tmp_path, "set", "cd" * 32, lambda: {"x": np.ones(1)})
    assert list(other) == ["x"]


def test_left_over_of_a_killed_build_is_no_set(tmp_path):
    partial = folder_of(tmp_path).with_name(folder_of(tmp_path).name + ".partial")
    partial.mkdir()
    (partial / "images.npy").write_bytes(b"half")
    arrays = cached(tmp_path, "set", KEY, build)
    np.testing.assert_array_equal(arrays["images"], build()["images"])
    assert not partial.exists()


def test_a_failing_build_leaves_nothing_behind(tmp_path):
    with pytest.raises(AssertionError):
        cached(tmp_path, "set", KEY, fail)
    assert not folder_of(tmp_path).exists()
    assert cached(tmp_path, "set", KEY, build).keys() == {"images", "target"}


def truncate(folder):
    file = folder / "images.npy"
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(folder):
    file = folder / "images.npy"
    file.write_bytes(file.read_bytes() + b"\0")


def remove_array(folder):
    (folder / "target.npy").unlink()


def remove_meta(folder):
    (folder / "meta.json").unlink()


def break_meta(folder):
    (folder / "meta.json").write_text("{", encoding="utf-8")


def list_as_meta(folder):
    (folder / "meta.json").write_text("[]", encoding="utf-8")


def exchange_shape(folder):
    size = (folder / "images.npy").stat().st_size
    np.save(folder / "images.npy", build()["images"].reshape(3, 2, 4))
    assert (folder / "images.npy").stat().st_size == size


def exchange_key(folder):
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    (folder / "meta.json").write_text(json.dumps(meta | {"key": "0"}), encoding="utf-8")


def pickle_inside(folder):
    np.save(folder / "target.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta["arrays"]["target"]["bytes"] = (folder / "target.npy").stat().st_size
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lengthen,
        remove_array,
        remove_meta,
        break_meta,
        list_as_meta,
        exchange_shape,
        exchange_key,
        pickle_inside,
    ],
)
def test_damaged_set_is_built_again_with_a_warning(tmp_path, damage):
    cached(tmp_path, "set", KEY, build)
    damage(folder_of(tmp_path))
    with pytest.warns(UserWarning, match="damaged"):
        arrays = cached(tmp_path, "set", KEY, build)
    for name, expected in build().items():
        np.testing.assert_array_equal(arrays[name], expected)
    cached(tmp_path, "set", KEY, fail)


def test_two_at_once_build_once(tmp_path):
    built, got = [], []

    def slow():
        built.append(1)
        time.sleep(0.3)
        return build()

    # Each thread opens its own lock file handle, as two processes would.
    threads = [threading.Thread(target=lambda: got.append(cached(tmp_path, "set", KEY, slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3
    assert len(built) == 1


def test_cache_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"cache_dir .*file.* cannot be written"):
        cached(tmp_path / "file", "set", KEY, build)


def test_full_disk(tmp_path, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    with pytest.raises(UserError, match="No space left"):
        cached(tmp_path, "set", KEY, build)
    assert not list(tmp_path.glob("*.partial"))


def test_key_names_every_value():
    keys = {key_of(a=1, b=2), key_of(a=2, b=1), key_of(a=1, c=2), key_of(a=1), key_of(a="1", b=2)}
    assert len(keys) == 5
    assert key_of(a=1, b=2) == key_of(b=2, a=1)
