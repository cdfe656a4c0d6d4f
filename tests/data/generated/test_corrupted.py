import numpy as np
import pytest
import torch

from debias.data.generated.corrupted import build_arrays, corrupt, data_key, level_of
from debias.data.generated.corruptions import CORRUPTIONS, TYPES
from debias.data.generated.corruptions.frosting import photographs, textures
from debias.data.sources.cifar_files import CLASSES
from debias.data.sources.idx import Source
from debias.errors import UserError


def source(n: int = 200) -> Source:
    images = np.random.default_rng(1).integers(0, 256, (2 * n, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(n) % 10
    return Source(images[:n], labels, images[n:], labels, CLASSES, np.arange(n) + 7, np.arange(n))


def test_severity4_is_the_strongest_level():
    assert [level_of(severity) for severity in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match=r"severity=5: of corrupted_cifar10 choose 0 .* 4"):
        level_of(5)


@pytest.mark.parametrize("kind", [0, 1])
def test_each_image_has_the_corruption_of_its_bias(kind, monkeypatch):
    """Corruptions that leave their number behind, instead of the real ones."""
    marks = {
        name: lambda images, level, generator, mark=number: torch.full_like(images, 10 * mark + level)
        for number, name in enumerate(CORRUPTIONS)
    }
    for name, mark in marks.items():
        monkeypatch.setitem(CORRUPTIONS, name, mark)
    arrays = build_arrays(source(), kind, 0.1, 3, seed=0)
    for part, aligned in (("train", 180), ("test", 20)):
        mark = arrays[f"{part}_images"][:, 0, 0, 0].astype(int)
        bias = arrays[f"{part}_bias"]
        # Level 4 of severity 3; wraps round a byte.
        np.testing.assert_array_equal(mark, (10 * (bias + 10 * kind) + 4) % 256)
        assert (bias == arrays[f"{part}_target"]).sum() == aligned
        assert (arrays[f"{part}_images"] == arrays[f"{part}_images"][:, :1, :1, :1]).all()


def test_the_original_of_type_1_is_untouched():
    plain = source()
    arrays = build_arrays(plain, 1, 0.0, 4, seed=0)
    trucks = arrays["train_bias"] == 9
    np.testing.assert_array_equal(arrays["train_images"][trucks], plain.train_images[trucks])
    assert (arrays["train_images"][~trucks] != plain.train_images[~trucks]).any(axis=(1, 2, 3)).mean() > 0.99


@pytest.mark.parametrize("skew", [0.05, 0.5])
def test_shares_of_any_skew(skew):
    arrays = build_arrays(source(400), 1, skew, 0, seed=0)
    conflicting = arrays["train_bias"] != arrays["train_target"]
    for label in range(10):
        assert conflicting[arrays["train_target"] == label].sum() == round(40 * skew)


def test_same_seed_same_images_other_seed_others(monkeypatch):
    one, again, other = (build_arrays(source(), 1, 0.1, 2, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["train_images"], again["train_images"])
    assert (one["train_images"] != other["train_images"]).any()
    np.testing.assert_array_equal(one["train_bias"], other["train_bias"])


def test_the_number_of_threads_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (1300, 3, 32, 32), dtype=np.uint8)
    bias = np.arange(1300) % 2
    chosen = [CORRUPTIONS["gaussian noise"], CORRUPTIONS["fog"]]
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(corrupt(images, bias, chosen, 5, "test", 0))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)
    # Two pieces of one corruption do not share their noise.
    white = np.full_like(images, 128)
    noisy = corrupt(white, np.zeros(1300, dtype=int), chosen, 5, "test", 0)
    assert not np.array_equal(noisy[:500], noisy[500:1000])


def test_train_and_test_noise_differ():
    flat = np.full((20, 3, 32, 32), 128, dtype=np.uint8)
    labels = np.arange(20) % 10
    arrays = build_arrays(Source(flat, labels, flat, labels, CLASSES, labels, labels), 1, 0.9, 4, seed=0)
    noisy = (arrays["train_bias"] == 0) & (arrays["test_bias"] == 0)
    assert noisy.any()
    assert not (arrays["train_images"][noisy] == arrays["test_images"][noisy]).all()


def test_the_key_names_everything():
    panes = list(textures())
    first = source()
    plain = data_key(first, 0, 0.1, 2, 0)
    others = [
        data_key(source(100), 0, 0.1, 2, 0),
        data_key(first, 1, 0.1, 2, 0),
        data_key(first, 0, 0.2, 2, 0),
        data_key(first, 0, 0.1, 3, 0),
        data_key(first, 0, 0.1, 2, 1),
        data_key(first, 0, 0.1, 2, 0, "last"),
        data_key(first, 0, 0.1, 2, 0, panes=panes),
        data_key(first, 0, 0.1, 2, 0, panes=panes[:4]),
    ]
    assert len({plain, *others}) == 9
    assert data_key(source(), 0, 0.1, 2, 0) == plain
    # There is no frost in type 1.
    assert data_key(first, 1, 0.1, 2, 0, panes=panes) == data_key(first, 1, 0.1, 2, 0)


def test_photographs_of_frost(tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 400), (10, 20, 250)).save(tmp_path / "b.png")
    Image.new("L", (300, 200), 77).save(tmp_path / "a.JPG", "JPEG")
    (tmp_path / "notes.txt").write_text("not a photograph")
    grey, blue = photographs(tmp_path)
    assert grey.shape == (3, 40, 60) and (grey == 77).all()
    assert blue.shape == (3, 80, 40) and blue[:, 0, 0].tolist() == [10, 20, 250]
    arrays = build_arrays(source(), 0, 0.0, 0, seed=0, panes=[blue])
    with_textures = build_arrays(source(), 0, 0.0, 0, seed=0)
    frosted = arrays["train_bias"] == TYPES[0].index("frost")
    assert (arrays["train_images"][frosted] != with_textures["train_images"][frosted]).any()
    np.testing.assert_array_equal(arrays["train_images"][~frosted], with_textures["train_images"][~frosted])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not a folder"),
        ({}, "holds no image"),
        ({"a.png": b"nonsense"}, "a.png cannot be read"),
        ("small", "165"),
    ],
)
def test_what_is_no_folder_of_photographs(tmp_path, content, says):
    from PIL import Image

    folder = tmp_path / "frost"
    if content is not None:
        folder.mkdir()
    if content == "small":
        Image.new("RGB", (400, 160)).save(folder / "a.png")
    elif content:
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=says):
        photographs(folder)


def test_made_frost_is_bright_bluish_and_varied():
    panes = textures().float() / 255
    assert panes.shape == (5, 3, 160, 160)
    assert panes.mean().item() == pytest.approx(0.6, abs=0.03)
    assert panes.mean(1).std().item() == pytest.approx(0.18, abs=0.03)
    red, green, blue = panes.mean((0, 2, 3))
    assert red < green < blue
    assert all((panes[i] - panes[j]).abs().mean() > 0.1 for i in range(5) for j in range(i))
