import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from debias.data.sources.idx import IDX_FILES, fashion_mnist, mnist, read_idx
from debias.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """Bytes of an IDX file holding a uint8 array."""
    header = np.array([0x0800 + array.ndim, *array.shape], dtype=">u4")
    return header.tobytes() + array.astype(np.uint8).tobytes()


def small_arrays(n_train: int = 120, n_test: int = 30) -> list[np.ndarray]:
    """Images and labels in the order of `IDX_FILES`; the corner pixel of image k is k."""
    arrays = []
    for n in (n_train, n_test):
        images = np.zeros((n, 28, 28), dtype=np.uint8)
        images[:, 10:20, 10:20] = 200
        images[:, 0, 0] = np.arange(n)
        arrays += [images, (np.arange(n) * 7 % 10).astype(np.uint8)]
    return arrays


def write_set(
    folder: Path, *, packed: bool = True, dotted: bool = False, arrays: list[np.ndarray] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for (stem, _), array in zip(IDX_FILES, arrays or small_arrays(), strict=True):
        name = stem.replace("-idx", ".idx") if dotted else stem
        content = idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist", "."])
@pytest.mark.parametrize(("packed", "dotted"), [(True, False), (False, False), (False, True), (True, True)])
def test_mnist_is_found_in_every_layout(tmp_path, place, packed, dotted):
    write_set(tmp_path / "in" / place, packed=packed, dotted=dotted)
    source = mnist(tmp_path / "in", tmp_path / "cache")
    train_images, train_labels, test_images, test_labels = small_arrays()
    np.testing.assert_array_equal(source.train_images, train_images)
    np.testing.assert_array_equal(source.train_labels, train_labels)
    np.testing.assert_array_equal(source.test_images, test_images)
    np.testing.assert_array_equal(source.test_labels, test_labels)
    assert source.train_labels.dtype == np.int64
    assert source.train_ids.tolist() == list(range(120))


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "fashion_mnist"])
def test_fashion_is_found_in_every_layout(tmp_path, place):
    write_set(tmp_path / place)
    assert fashion_mnist(tmp_path, tmp_path / "cache").names[9] == "ankle boot"


def test_one_set_never_passes_for_the_other(tmp_path):
    flat = write_set(tmp_path / "files")
    with pytest.raises(UserError, match="FashionMNIST was not found"):
        fashion_mnist(flat, tmp_path / "cache")
    fashion = write_set(tmp_path / "fashion-mnist")
    assert len(fashion_mnist(fashion, tmp_path / "cache").train_labels) == 120
    with pytest.raises(UserError, match="MNIST was not found"):
        mnist(fashion, tmp_path / "cache")


def test_an_earlier_download_is_used(tmp_path):
    write_set(tmp_path / "downloads" / "MNIST" / "raw")
    assert len(mnist(None, tmp_path).train_labels) == 120


def test_a_download_is_read(tmp_path, monkeypatch):
    """What torchvision has put where it puts files."""
    monkeypatch.setattr(datasets, "MNIST", lambda root, download: write_set(Path(root) / "MNIST" / "raw"))
    assert len(mnist(tmp_path / "absent", tmp_path / "cache").train_labels) == 120
    assert not (tmp_path / "absent").exists()


def test_missing_everywhere_says_what_to_do(tmp_path):
    folder = write_set(tmp_path / "in" / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as caught:
        mnist(tmp_path / "in", tmp_path / "cache")
    message = str(caught.value)
    for place in (tmp_path / "in" / "MNIST" / "raw", folder, tmp_path / "in", tmp_path / "cache" / "downloads"):
        assert str(place) in message
    for stem, _ in IDX_FILES:
        assert stem in message
    assert "lacks t10k-labels-idx1-ubyte" in message
    assert "Connection refused" in message
    assert "colored_digits needs no download" in message


def test_missing_without_a_data_dir_names_the_setting(tmp_path):
    with pytest.raises(UserError, match=r"data_dir \(or the environment variable DATA_DIR\)"):
        mnist(None, tmp_path)


def expect_damage(tmp_path, number: int, content: bytes, message: str, suffix: str = "") -> None:
    folder = write_set(tmp_path / "mnist", packed=False)
    stem = IDX_FILES[number][0]
    (folder / stem).unlink()
    (folder / f"{stem}{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        mnist(tmp_path, tmp_path / "cache")
    assert stem in str(caught.value)


def test_truncated_gzip(tmp_path):
    expect_damage(tmp_path, 0, gzip.compress(idx(small_arrays()[0]))[:-30], "broken gzip", ".gz")


def test_corrupt_gzip(tmp_path):
    content = bytearray(gzip.compress(np.random.default_rng(0).bytes(4000)))
    content[2000] ^= 0xFF
    expect_damage(tmp_path, 2, bytes(content), "broken gzip", ".gz")


def test_broken_deflate_stream(tmp_path):
    expect_damage(tmp_path, 2, gzip.compress(b"")[:10] + b"\xff" * 40, "broken gzip", ".gz")


def test_wrong_magic(tmp_path):
    # Labels where images should be: magic 2049 instead of 2051.
    labels = np.zeros(1000, dtype=np.uint8)
    expect_damage(tmp_path, 0, idx(labels), "magic number 2049 instead of 2051")


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length(tmp_path, change):
    content = idx(small_arrays()[1])
    content = content[:-1] if change < 0 else content + b"\0"
    expect_damage(tmp_path, 1, content, f"{128 + change} bytes instead of the 128")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03\0\0"])
def test_shorter_than_the_header(tmp_path, content):
    expect_damage(tmp_path, 0, content, "shorter than its header")


def test_counts_that_differ(tmp_path):
    arrays = small_arrays()
    arrays[3] = arrays[3][:-1]
    write_set(tmp_path, arrays=arrays)
    with pytest.raises(UserError, match=r"30 images but .*t10k-labels.* 29 labels"):
        mnist(tmp_path, tmp_path / "cache")


def test_images_of_another_size(tmp_path):
    arrays = small_arrays()
    arrays[0] = arrays[0][:, :20]
    write_set(tmp_path, arrays=arrays)
    with pytest.raises(UserError, match="expected 28x28"):
        mnist(tmp_path, tmp_path / "cache")


def test_label_out_of_range(tmp_path):
    arrays = small_arrays()
    arrays[1][5] = 10
    write_set(tmp_path, arrays=arrays)
    with pytest.raises(UserError, match="label 10: expected 0 to 9"):
        mnist(tmp_path, tmp_path / "cache")


def test_read_idx_takes_bytes_in_order(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]))
    assert read_idx(file, 2).tolist() == [[1, 2, 3], [4, 5, 255]]


def test_digest_follows_the_content(tmp_path):
    write_set(tmp_path / "a")
    arrays = small_arrays()
    arrays[2][7, 3, 3] = 1
    write_set(tmp_path / "b", arrays=arrays)
    first, again, other = (mnist(tmp_path / name, tmp_path / "cache").digest for name in "aab")
    assert first == again
    assert first != other


def test_limited_keeps_images_labels_and_ids_together(tmp_path):
    source = mnist(write_set(tmp_path), tmp_path / "cache")
    part = source.limited(60, seed=1)
    assert (len(part.train_labels), len(part.test_labels)) == (60, 10)
    # The corner pixel of image k is k, its label 7k mod 10.
    assert part.train_images[:, 0, 0].tolist() == part.train_ids.tolist()
    assert part.train_labels.tolist() == (part.train_ids * 7 % 10).tolist()
    assert part.test_images[:, 0, 0].tolist() == part.test_ids.tolist()
    assert len(set(part.train_ids.tolist())) == 60
    assert part.train_ids.tolist() == source.limited(60, seed=1).train_ids.tolist()
    assert part.train_ids.tolist() != source.limited(60, seed=2).train_ids.tolist()
    assert source.limited(90, seed=1).train_ids.tolist()[:60] == part.train_ids.tolist()
    assert part.digest != source.digest


def test_limited_beyond_the_source_keeps_all(tmp_path):
    part = mnist(write_set(tmp_path), tmp_path / "cache").limited(100_000, seed=0)
    assert sorted(part.train_ids.tolist()) == list(range(120))


def test_limit_too_small(tmp_path):
    with pytest.raises(UserError, match="limit=5"):
        mnist(write_set(tmp_path), tmp_path / "cache").limited(5, seed=0)


@pytest.mark.real
@pytest.mark.skipif("DATA_DIR" not in os.environ, reason="DATA_DIR is not set: no real MNIST to read")
def test_real_mnist(tmp_path):
    source = mnist(Path(os.environ["DATA_DIR"]), tmp_path)
    assert np.bincount(source.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(source.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert source.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # MNIST's published mean grey value.
    assert source.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
