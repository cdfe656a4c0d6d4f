import numpy as np
import pytest
import torch

from debias.data.sources.digits import build_arrays, digits, vary
from tests.pipeline import written


@pytest.fixture(scope="module")
def arrays():
    return build_arrays(n_train=1500, n_test=300)


def test_shapes_types_and_labels(arrays):
    assert arrays["train_images"].shape == (1500, 28, 28)
    assert arrays["test_images"].shape == (300, 28, 28)
    assert arrays["train_images"].dtype == np.uint8
    for part in ("train", "test"):
        count = np.bincount(arrays[f"{part}_labels"], minlength=10)
        assert count.min() > 0.08 * count.sum()


def test_looks_like_mnist(arrays):
    images = arrays["train_images"]
    assert images.min() == 0
    assert np.median(images.max((1, 2))) == 255
    # MNIST: 19 % of the pixels carry ink, 10 % are bright, mean grey value 33; the rim is empty.
    assert 0.15 < (images > 0).mean() < 0.23
    assert 0.07 < (images > 200).mean() < 0.13
    assert 28 < images.mean() < 38
    assert images[:, 0].mean() < 0.5
    assert images[:, :, -1].mean() < 0.5


def test_classes_can_be_told_apart(arrays):
    """The nearest class mean of the training images recognises test digits of other originals."""
    train, test = (arrays[f"{part}_images"].reshape(-1, 784).astype(np.float32) for part in ("train", "test"))
    mean = np.stack([train[arrays["train_labels"] == digit].mean(0) for digit in range(10)])
    nearest = ((test[:, None] - mean) ** 2).sum(2).argmin(1)
    assert (nearest == arrays["test_labels"]).mean() > 0.6


def test_deterministic_and_whatever_the_threads(arrays):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        torch.manual_seed(5)
        again = build_arrays(n_train=1500, n_test=300)
        assert torch.get_num_threads() == (1 if threads > 1 else 2)
    finally:
        torch.set_num_threads(threads)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_no_original_is_in_both_parts():
    # Unvaried, so that an original can be recognised.
    arrays = build_arrays(n_train=3000, n_test=600, variation=lambda images, generator: images.clone())
    train, test = ({image.tobytes() for image in arrays[f"{part}_images"]} for part in ("train", "test"))
    assert len(train) + len(test) > 1780
    assert abs(len(test) / (len(train) + len(test)) - 1 / 6) < 0.01
    assert not train & test


def test_vary_moves_every_image_its_own_way():
    image = torch.zeros(20, 28, 28)
    image[:, 10:18, 12:16] = 1
    varied = vary(image, torch.Generator().manual_seed(0))
    assert varied.shape == (20, 28, 28)
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert len({one.numpy().tobytes() for one in varied}) == 20
    ink = varied.sum((1, 2)) / 32
    assert ink.min() > 0.5
    assert ink.max() < 1.7
    centre = (varied.sum(1) * torch.arange(28)).sum(1) / varied.sum((1, 2))
    assert (centre - 13.5).abs().max() < 5


def test_digits_are_cached(tmp_path):
    first, before = digits(tmp_path, 60, 12), written(tmp_path)
    second = digits(tmp_path, 60, 12)
    assert written(tmp_path) == before != {}
    assert first.digest == second.digest
    assert second.train_ids.tolist() == list(range(60))
    assert second.names == tuple("0123456789")
