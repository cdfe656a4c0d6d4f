"""CIFAR-10 from every layout it comes in, written here with 2 + 1 images of each class."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from debias.data.sources.cifar import cifar10
from debias.data.sources.cifar_files import ARCHIVE, BATCHES, CLASSES, PARTS, read_batch
from debias.errors import UserError


def pixels(part: str, label: int, number: int) -> np.ndarray:
    """One colour an image, which PNG keeps: part, class, number."""
    image = np.empty((32, 32, 3), dtype=np.uint8)
    image[:] = (200 if part == "test" else 100, label * 20, number * 50)
    return image


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def tree(test: int = 1) -> dict[str, bytes]:
    """Paths and contents of class folders."""
    return {
        f"{part}/{name}/{number:04}.png": png(pixels(part, label, number))
        for part, count in (("train", 2), ("test", test))
        for label, name in enumerate(CLASSES)
        for number in range(count)
    }


def write_tree(root: Path, test: int = 1) -> None:
    """Class folders with so many test images each."""
    for name, content in tree(test).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_zip(path: Path, top: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/" + top + "train/airplane/._0000.png", b"")
        archive.writestr(top + "README.txt", "not an image")
        for name, content in tree().items():
            archive.writestr(top + name, content)


def batch(part: str, numbers: range) -> bytes:
    """A file like CIFAR-10's own: images of all classes, by number."""
    chosen = [(label, number) for number in numbers for label in range(10)]
    data = np.stack([pixels(part, label, number).transpose(2, 0, 1).reshape(-1) for label, number in chosen])
    named = {
        "batch_label": "batch 1 of 5",
        "labels": [label for label, _ in chosen],
        "data": data,
        "filenames": [f"{label}_{number}.png" for label, number in chosen],
    }
    # The originals have byte strings for names, as Python 2 wrote them.
    return pickle.dumps({key.encode(): value for key, value in named.items()}, protocol=2)


def write_batches(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part, names in PARTS.items():
        for number, name in enumerate(names):
            (root / name).write_bytes(batch(part, range(number, number + 1)))


def write_archive(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent / "unpacked"
    write_batches(folder)
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"{BATCHES}/{file.name}")
            file.unlink()
    folder.rmdir()


LAYOUTS = {
    "class folders": lambda root: write_tree(root),
    "class folders in cifar10": lambda root: write_tree(root / "cifar10"),
    "cifar10_jpeg.zip": lambda root: write_zip(root / "cifar10_jpeg.zip"),
    "cifar10.zip in a folder of its own": lambda root: write_zip(root / "cifar10.zip", "cifar10/"),
    "torchvision's folder": lambda root: write_batches(root / BATCHES),
    "its content": write_batches,
    "its archive": lambda root: write_archive(root / ARCHIVE),
}


pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, layout):
    LAYOUTS[layout](tmp_path / "in")
    source = cifar10(tmp_path / "in", tmp_path / "cache")
    assert source.names == CLASSES
    each = len(source.train_labels) // 10
    assert np.bincount(source.train_labels).tolist() == [each] * 10 and each in (2, 5)
    assert np.bincount(source.test_labels).tolist() == [1] * 10
    for part, images, labels in (
        ("train", source.train_images, source.train_labels),
        ("test", source.test_images, source.test_labels),
    ):
        assert images.shape[1:] == (3, 32, 32) and images.dtype == np.uint8
        for image, label in zip(images, labels, strict=True):
            np.testing.assert_array_equal(image.transpose(1, 2, 0), pixels(part, label, image[2, 0, 0] // 50))
    assert source.train_ids.tolist() == list(range(10 * each))


def test_the_second_time_nothing_is_opened(tmp_path, monkeypatch):
    write_zip(tmp_path / "in" / "cifar10.zip")
    first = cifar10(tmp_path / "in", tmp_path / "cache")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("opened again"))
    second = cifar10(tmp_path / "in", tmp_path / "cache")
    assert first.digest == second.digest


def test_other_files_are_decoded_anew(tmp_path):
    write_tree(tmp_path / "in")
    first = cifar10(tmp_path / "in", tmp_path / "cache")
    (tmp_path / "in" / "train" / "dog" / "0001.png").write_bytes(png(np.full((32, 32, 3), 9, dtype=np.uint8)))
    second = cifar10(tmp_path / "in", tmp_path / "cache")
    assert first.digest != second.digest
    assert (second.train_images == 9).all(axis=(1, 2, 3)).sum() == 1


def test_a_limit_decodes_only_what_it_keeps(tmp_path):
    write_tree(tmp_path / "in")
    whole = cifar10(tmp_path / "in", tmp_path / "cache")
    kept = cifar10(tmp_path / "in", tmp_path / "cache", limit=12, seed=3)
    assert (len(kept.train_labels), len(kept.test_labels)) == (12, 2)
    np.testing.assert_array_equal(kept.train_images, whole.train_images[kept.train_ids])
    np.testing.assert_array_equal(kept.train_labels, whole.train_labels[kept.train_ids])
    other = cifar10(tmp_path / "in", tmp_path / "cache", limit=12, seed=4)
    assert kept.train_ids.tolist() != other.train_ids.tolist()
    left = min(set(range(20)) - set(kept.train_ids.tolist()))
    name = f"train/{CLASSES[left // 2]}/{left % 2:04}.png"
    (tmp_path / "in" / name).write_bytes(b"broken")
    again = cifar10(tmp_path / "in", tmp_path / "elsewhere", limit=12, seed=3)
    assert again.digest == kept.digest
    with pytest.raises(UserError, match=name):
        cifar10(tmp_path / "in", tmp_path / "cache")


@pytest.mark.parametrize("limit", [1, 5])
def test_a_limit_without_test_images(tmp_path, limit):
    with pytest.raises(UserError, match=f"limit={limit}"):
        cifar10(tmp_path, tmp_path, limit=limit)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as an image"),
        (png(np.zeros((32, 32, 3), np.uint8))[:60], "cannot be read as an image"),
        (b"<html>", "cannot be read as an image"),
        (png(np.zeros((32, 31, 3), np.uint8)), "is 31 x 32"),
    ],
)
def test_a_broken_image_is_named_and_nothing_is_kept(tmp_path, content, says):
    write_tree(tmp_path / "in")
    (tmp_path / "in" / "test" / "frog" / "0000.png").write_bytes(content)
    with pytest.raises(UserError, match=f"test/frog/0000.png {says}"):
        cifar10(tmp_path / "in", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_missing_class(tmp_path):
    write_tree(tmp_path / "in")
    (tmp_path / "in" / "test" / "ship" / "0000.png").unlink()
    with pytest.raises(UserError, match="test has no images of ship"):
        cifar10(tmp_path / "in", tmp_path / "cache")


def test_a_giant_in_a_zip_is_not_unpacked(tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "cifar10.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tree().items():
            archive.writestr(name, bytes(2 << 20) if name == "train/cat/0001.png" else content)
    with pytest.raises(UserError, match="train/cat/0001.png is 2097152 bytes long"):
        cifar10(tmp_path / "in", tmp_path / "cache")


def test_a_damaged_zip(tmp_path):
    write_zip(tmp_path / "in" / "cifar10.zip")
    content = (tmp_path / "in" / "cifar10.zip").read_bytes()
    (tmp_path / "in" / "cifar10.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a zip that can be read"):
        cifar10(tmp_path / "in", tmp_path / "cache")


class Harmful:
    """What a pickle would do when it is loaded."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a data file was executed')",))


def test_no_pickle_is_executed(tmp_path):
    write_batches(tmp_path / BATCHES)
    content = pickle.dumps({b"labels": [1], b"data": Harmful()}, protocol=2)
    (tmp_path / BATCHES / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match="test_batch is not a batch of CIFAR-10, or damaged"):
        cifar10(tmp_path, tmp_path / "cache")


def test_names_of_either_kind():
    """Python 2 wrote plain strings, torchvision may meet bytes."""
    data = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    for names in (("labels", "data"), (b"labels", b"data")):
        images, labels = read_batch(pickle.dumps({names[0]: [3, 300 % 10], names[1]: data}, protocol=2), "x")
        assert labels.tolist() == [3, 0]
        np.testing.assert_array_equal(images.reshape(2, -1), data)


@pytest.mark.parametrize("cut", [0, 10, 3000, -1])
def test_a_batch_that_is_cut_short(cut):
    content = batch("train", range(1))
    with pytest.raises(UserError, match="here is not a batch"):
        read_batch(content[:cut], "here")


def test_nothing_found(tmp_path):
    with pytest.raises(UserError, match=r"(?s)CIFAR-10 was not found.*none of them is in .*Connection refused"):
        cifar10(tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match="set data_dir"):
        cifar10(None, tmp_path / "cache")


def test_a_folder_of_other_classes_is_not_taken(tmp_path):
    (tmp_path / "train" / "align").mkdir(parents=True)
    with pytest.raises(UserError, match="was not found"):
        cifar10(tmp_path, tmp_path / "cache")
