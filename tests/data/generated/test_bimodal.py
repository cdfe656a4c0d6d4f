"""Two-modality Colored MNIST: grey images, and colours that tell the class in training and not in every test."""

import numpy as np
import pytest
import torch

from debias.data.generated import bimodal
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.errors import UserError


def source(n: int = 1200) -> Source:
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = np.arange(n) % 10
    return Source(images, labels, images[: n // 2], labels[: n // 2], MNIST_NAMES, np.arange(n), np.arange(n // 2))


@pytest.fixture(scope="module")
def task():
    arrays = bimodal.build_arrays(source(), 0.0, 0.1, seed=3)
    return bimodal.as_task(arrays, name="bimodal", names=MNIST_NAMES, key="k")


def test_images_stay_grey_and_colours_are_beside_them(task):
    assert task.image_shape == (1, 28, 28) and task.vector_size == 3
    assert (task.train.images.numpy() == source().train_images[:, None]).all()
    assert torch.equal(task.train.bias, task.train.target)
    for split in (task.train, task.test, *task.extra_tests.values()):
        assert split.vector.min() >= 0 and split.vector.max() <= 1


def test_colours_lie_around_that_of_the_bias(task):
    for split in (task.train, task.test, task.extra_tests["coloured"]):
        mean = task.bias_colours[split.bias]
        inside = (mean > 0.35) & (mean < 0.65)
        assert (split.vector - mean)[inside].std() == pytest.approx(0.1, rel=0.1)


def test_the_three_tests(task):
    coloured, grey = task.extra_tests["coloured"], task.extra_tests["grey"]
    assert list(task.extra_tests) == ["coloured", "grey"]
    for split in (coloured, grey):
        assert torch.equal(split.images, task.test.images) and torch.equal(split.target, task.test.target)
    assert torch.equal(coloured.bias, coloured.target)
    # fresh noise: not that of the training images
    assert not torch.equal(coloured.vector, task.train.vector[: len(coloured)])
    assert grey.bias is None and grey.vector.eq(1).all()
    assert 30 < (task.test.bias == task.test.target).sum() < 90  # a tenth of 600


def test_class_colours_differ_and_depend_on_the_seed_alone():
    colours = bimodal.class_colours(10, 1)
    assert torch.equal(colours, bimodal.class_colours(10, 1))
    assert not torch.equal(colours, bimodal.class_colours(10, 2))
    for seed in range(60):
        assert torch.pdist(bimodal.class_colours(10, seed)).min() >= bimodal.LEAST_DISTANCE


def test_class_colours_that_nearly_agree_are_drawn_anew(monkeypatch):
    draws = [torch.full((10, 3), 0.5), torch.linspace(0, 1, 30).view(10, 3)]
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: draws.pop(0))
    assert torch.equal(bimodal.class_colours(10, 1), torch.linspace(0, 1, 30).view(10, 3))


def test_skew_and_spread():
    arrays = bimodal.build_arrays(source(), 0.5, 0.0, seed=3)
    assert (arrays["train_bias"] != arrays["train_target"]).mean() == pytest.approx(0.5)
    np.testing.assert_array_equal(arrays["train_vector"], arrays["colours"][arrays["train_bias"]])
    with pytest.raises(UserError, match="colour_std=-1"):
        bimodal.build_arrays(source(), 0.0, -1.0, seed=3)
    keys = {bimodal.data_key(source(), *settings) for settings in ((0.0, 0.1, 1), (0.5, 0.1, 1), (0.0, 0.2, 1))}
    assert len(keys) == 3
