"""Colored MNIST with colour jitter: colours, the bias map, and colours that cannot be told from the background."""

import numpy as np
import pytest
import torch

from debias.data.generated import jitter
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.errors import UserError


def source(n: int = 400) -> Source:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = np.arange(n) % 10
    return Source(images, labels, images[: n // 2], labels[: n // 2], MNIST_NAMES, np.arange(n), np.arange(n // 2))


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return jitter.build_arrays(source(), 0.0, 0.02, "jitter", seed=1)


def test_digits_are_flat_on_black(arrays):
    images, grey = arrays["train_images"], source().train_images
    assert images.shape == (400, 3, 28, 28) and images.dtype == np.uint8
    for image, plain in zip(images[:50], grey[:50], strict=True):
        ink = plain > 128
        assert (image[:, ~ink] == 0).all()
        assert len(np.unique(image[:, ink], axis=1).T) == 1
        assert image[:, ink].max() > 0


def test_training_colours_lie_around_the_mean_of_the_class(arrays):
    colours = arrays["train_images"].max((2, 3)) / 255
    mean = np.array(jitter.PALETTE)[source().train_labels] / 255
    assert (arrays["train_bias"] == source().train_labels).all()
    inside = (mean > 0.35) & (mean < 0.65)  # where the noise is not cut off
    assert (colours - mean)[inside].std() == pytest.approx(0.02**0.5, rel=0.15)
    assert (colours - mean)[inside].mean() == pytest.approx(0, abs=0.02)


def test_test_colours_do_not_depend_on_the_class(arrays):
    bias, target = arrays["test_bias"], arrays["test_target"]
    assert 5 < (bias == target).sum() < 40  # a tenth of 200
    assert set(bias) == set(range(10))
    colours = arrays["test_images"].max((2, 3)) / 255
    mean = np.array(jitter.PALETTE)[bias] / 255
    inside = (mean > 0.35) & (mean < 0.65)
    assert (colours - mean)[inside].std() == pytest.approx(0.02**0.5, rel=0.2)


def test_the_task_and_its_grey_test(arrays):
    task = jitter.as_task(arrays, name="jitter", names=MNIST_NAMES, key="k", reverse=False, palette="jitter")
    grey = task.extra_tests["grey"]
    assert grey.bias is None
    assert (grey.images.numpy() == source().test_images[:, None]).all()
    assert torch.equal(grey.target, task.test.target)
    assert task.mean == jitter.MEAN and task.bias_names is not None and task.bias_names[3] == "bondi"
    assert task.bias_colours is not None
    assert task.bias_colours[3].mul(255).tolist() == pytest.approx([0, 149, 182])
    turned = jitter.as_task(arrays, name="jitter", names=MNIST_NAMES, key="k", reverse=True, palette="jitter")
    assert torch.equal(turned.test.target, task.test.bias) and not turned.extra_tests


def test_skew_makes_conflicting_training_images():
    arrays = jitter.build_arrays(source(), 0.25, 0.02, "jitter", seed=1)
    assert (arrays["train_bias"] != arrays["train_target"]).mean() == pytest.approx(0.25)


def test_only_seed_variance_and_palette_change_colours():
    def colours(*settings):
        return jitter.build_arrays(source(), 0.0, *settings)["train_images"]

    first = colours(0.02, "jitter", 1)
    assert (first == colours(0.02, "jitter", 1)).all()
    for other in ((0.05, "jitter", 1), (0.02, "colored", 1), (0.02, "random", 1), (0.02, "jitter", 2)):
        assert (first != colours(*other)).any()
    keys = [jitter.data_key(source(), 0.0, *settings) for settings in ((0.02, "jitter", 1), (0.05, "jitter", 1))]
    assert keys[0] != keys[1]


def test_without_variance_every_image_has_its_mean_colour():
    mean = torch.tensor(jitter.PALETTE) / 255
    assert jitter.draw_colours(mean, 0.0, torch.Generator()).tolist() == [list(colour) for colour in jitter.PALETTE]


def test_no_colour_is_that_of_the_background():
    """Dark maroon with much noise: half of the draws would be black, and the digit unseen."""
    mean = torch.tensor([[2 / 255, 0.0, 0.0]]).expand(3000, 3)
    colours = jitter.draw_colours(mean, 1e-6, torch.Generator().manual_seed(0))
    assert (colours > 0).any(1).all()
    dark = torch.tensor([[1 / 255, 0.0, 0.0]]).expand(3000, 3)
    assert (jitter.draw_colours(dark, 0.05, torch.Generator().manual_seed(0)) > 0).any(1).all()


def test_a_class_colour_equal_to_the_background_is_refused():
    with pytest.raises(UserError, match="a class colour is black, as the background is"):
        jitter.draw_colours(torch.tensor([[0.5, 0, 0], [0.001, 0, 0]]), 0.02, torch.Generator())


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match="variance=-0.1"):
        jitter.build_arrays(source(), 0.0, -0.1, "jitter", 1)
    with pytest.raises(UserError, match="palette='jiter'"):
        jitter.build_arrays(source(), 0.0, 0.02, "jiter", 1)
    with pytest.raises(UserError, match="skew=2"):
        jitter.build_arrays(source(), 2.0, 0.02, "jitter", 1)


def test_the_bias_map_by_hand():
    """Pixels at odd rows and columns; value // 32, and 255 for a channel that is 0."""
    images = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    images[0, :, 1, 1] = torch.tensor([255, 31, 0])
    images[0, :, 3, 5] = torch.tensor([32, 1, 224])
    images[0, :, 0, 0] = 77  # not looked at
    found = jitter.bias_map(images)
    assert found.dtype == torch.uint8 and found.shape == (1, 3, 2, 3)
    assert found[0, :, 0, 0].tolist() == [7, 0, 255]
    assert found[0, :, 1, 2].tolist() == [1, 0, 7]
    assert (found == 255).sum() == 18 - 5
