"""The cache of decoded images: made once, checked when opened, never half-written."""

import os
import signal

import numpy as np
import pytest

from debias.data.photos.archives import Files, open_files
from debias.data.photos.imagecache import decoded_images
from debias.data.preparation import Preparation
from debias.errors import UserError
from tests.photos import picture, save


@pytest.fixture
def folder(tmp_path):
    for number in range(30):
        save(tmp_path / "in" / f"{number:02d}.png", number % 4, number % 3, number)
    return tmp_path / "in"


class Halfway(Files):
    """The files of a folder; after so many of them something happens."""

    def __init__(self, folder, after, what):
        self._files, self._after, self._what = open_files(folder), after, what
        self.root, self.stamps = self._files.root, self._files.stamps

    def each(self, names):
        for number, task in enumerate(self._files.each(names)):
            if number == self._after:
                self._what()
            yield task


def opened(folder, cache, size=20, files=None, **options):
    files = files or open_files(folder)
    return decoded_images(files, files.names, Preparation(size), cache, "a set", progress=False, **options)


def refuse():
    raise AssertionError("decoded again")


def cache_folder(cache):
    (found,) = (path for path in cache.iterdir() if path.is_dir())
    return found


def test_decoded_once(folder, tmp_path):
    (folder / "05.png").write_bytes(b"x")
    first = opened(folder, tmp_path / "cache")
    second = opened(folder, tmp_path / "cache", files=Halfway(folder, 0, refuse), workers=3)
    for one in (first, second):
        assert isinstance(one.images, np.memmap) and not one.images.flags.writeable
        assert one.images.shape == (30, 3, 20, 20)
        assert list(one.faults) == [5]
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.contents, second.contents)


def touch(folder):
    os.utime(folder / "03.png", ns=(1, 1))


def remove(folder):
    (folder / "03.png").unlink()


def exchange(folder):
    picture(3, 5, 99).save(folder / "03.png")


@pytest.mark.parametrize("change", [touch, remove, exchange])
def test_changed_files_are_decoded_again(folder, tmp_path, change):
    opened(folder, tmp_path / "cache")
    change(folder)
    with pytest.raises(AssertionError, match="decoded again"):
        opened(folder, tmp_path / "cache", files=Halfway(folder, 0, refuse))


def test_another_size_is_another_cache(folder, tmp_path):
    assert opened(folder, tmp_path / "cache", 20).images.shape[2] == 20
    assert opened(folder, tmp_path / "cache", 24).images.shape[2] == 24
    assert sum(path.is_dir() for path in (tmp_path / "cache").iterdir()) == 2


def test_changed_rows_are_noticed(folder, tmp_path):
    before = np.array(opened(folder, tmp_path / "cache").images)
    file = cache_folder(tmp_path / "cache") / "images.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 255
    file.write_bytes(raw)
    with pytest.warns(UserWarning, match="damaged .row 29 of images.npy is not what was written"):
        again = opened(folder, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, before)


def die_while_decoding(folder, cache):
    try:
        opened(folder, cache, files=Halfway(folder, 15, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    finally:
        os._exit(1)


def test_killed_while_decoding(folder, tmp_path):
    """Half a cache has the right size, but not the right name."""
    child = os.fork()
    if child == 0:
        die_while_decoding(folder, tmp_path / "cache")
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    partial = cache_folder(tmp_path / "cache")
    assert partial.name.endswith(".partial") and (partial / "images.npy").stat().st_size > 30 * 3 * 400
    images = opened(folder, tmp_path / "cache").images
    np.testing.assert_array_equal(images, opened(folder, tmp_path / "other").images)
    assert not partial.exists()


def test_interrupted_while_decoding_leaves_nothing(folder, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(folder, tmp_path / "cache", files=Halfway(folder, 15, interrupt))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_full_disk_is_told_before_anything_is_decoded(folder, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cache_dir .* cannot be written to .No space left on device"):
        opened(folder, tmp_path / "cache", files=Halfway(folder, 0, refuse))
