"""Biased MNIST: how many images get which colour, what the images are, and which images validation shares."""

import numpy as np
import pytest
import torch

from debias.data.generated.biased import (
    COLOUR_NAMES,
    PALETTE,
    VALIDATIONS,
    as_task,
    assign_colours,
    build_arrays,
    data_key,
    paint,
)
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.errors import UserError

# Images of MNIST by digit.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def coloured(target: np.ndarray, rho: float, confusing: int = 9, seed: int = 0) -> np.ndarray:
    return assign_colours(target, rho, confusing, 10, torch.Generator().manual_seed(seed))


def cells(target: np.ndarray, bias: np.ndarray) -> np.ndarray:
    found = np.zeros((10, 10), dtype=int)
    np.add.at(found, (target, bias), 1)
    return found


def source(n: int = 400) -> Source:
    """Grey images whose only lit pixels spell their place: equal images are equal digits."""
    places = np.arange(2 * n)
    images = np.zeros((2 * n, 4, 4), dtype=np.uint8)
    bits = (places[:, None] >> np.arange(10)) & 1
    images.reshape(2 * n, 16)[:, :10] = bits * (1 + places[:, None] % 255)
    labels = np.arange(n) % 10
    return Source(images[:n], labels, images[n:], labels, MNIST_NAMES, np.arange(n) + 7, np.arange(n))


def build(rho: float = 0.9, validation: str = "unbiased", fraction: float = 0.25, seed: int = 0, reverse: bool = False):
    arrays = build_arrays(source(), rho, 9, seed, validation, fraction)
    return as_task(arrays, name="b", names=MNIST_NAMES, key="k", reverse=reverse, validation=validation)


@pytest.mark.parametrize(
    ("rho", "conflicting", "colours"),
    # As counted in the published generator's output, class by class: sum over floor(n rho) and chunks of ceil(m / 9).
    [(0.999, 63, {6, 7}), (0.997, 184, {7, 9}), (0.995, 305, {7, 8, 9}), (0.99, 606, {8, 9}), (0.9, 6006, {9})],
)
def test_conflicting_images_of_mnist(rho, conflicting, colours):
    target = np.repeat(np.arange(10), TRAIN_COUNTS)
    found = cells(target, coloured(target, rho))
    assert found.sum(1).tolist() == TRAIN_COUNTS
    assert found.diagonal().tolist() == [int(n * rho) for n in TRAIN_COUNTS]
    assert found.sum() - found.trace() == conflicting
    assert {int((row > 0).sum()) - 1 for row in found} == colours


def test_a_tenth_is_unbiased():
    target = np.repeat(np.arange(10), TEST_COUNTS)
    found = cells(target, coloured(target, 0.1))
    assert found.trace() == 996
    # 892 images of class 5: 89 in its own colour, eight chunks of 90, and 83.
    assert found[5].tolist() == [90, 90, 90, 90, 83, 89, 90, 90, 90, 90]


def test_chunks_go_to_the_next_classes_in_turn():
    # Ten images of class 8, half of them aligned; five in chunks of ceil(5 / 3) = 2 to the classes 9, 0 and 1.
    found = cells(np.full(10, 8), coloured(np.full(10, 8), 0.5, confusing=3))
    assert found[8].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 5, 2]


@pytest.mark.parametrize(("rho", "aligned"), [(0, 0), (1, 1000)])
def test_extremes_of_rho(rho, aligned):
    target = np.arange(1000) % 10
    assert (coloured(target, rho) == target).sum() == aligned


@pytest.mark.parametrize("rho", [-0.01, 1.01, float("nan")])
def test_rho_out_of_range(rho):
    with pytest.raises(UserError, match=r"rho=.*\[0, 1\]"):
        coloured(np.arange(10), rho)


@pytest.mark.parametrize("confusing", [0, 10])
def test_confusing_labels_out_of_range(confusing):
    with pytest.raises(UserError, match=f"n_confusing_labels={confusing}: a whole number from 1 to 9"):
        coloured(np.arange(10), 0.5, confusing)


def test_which_images_conflict_is_drawn():
    target = np.repeat(np.arange(10), 100)
    one, again, other = (coloured(target, 0.9, seed=seed) for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()
    places = np.flatnonzero(one != target) % 100
    # Neither the first nor the last ten of a class.
    assert 30 < places.mean() < 70


def test_every_lit_pixel_is_white_and_the_rest_is_the_colour():
    grey = np.array([[[0, 1], [128, 255]], [[0, 0], [0, 9]]], dtype=np.uint8)
    images = paint(grey, np.array([6, 3]))
    assert images[0].tolist() == [[[255, 255], [255, 255]], [[128, 255], [255, 255]], [[0, 255], [255, 255]]]
    assert images[1].tolist() == [[[225, 225], [225, 255]], [[225, 225], [225, 255]], [[0, 0], [0, 255]]]


def test_many_images_are_painted_as_few_are():
    rng = np.random.default_rng(0)
    grey, bias = rng.integers(0, 3, (4100, 2, 3), dtype=np.uint8), rng.integers(0, 10, 4100)
    whole = paint(grey, bias)
    assert all((paint(grey[k : k + 1], bias[k : k + 1]) == whole[k]).all() for k in (0, 1999, 2000, 4099))


def test_a_background_in_the_colour_of_the_digits():
    grey, bias = np.zeros((1, 2, 2), dtype=np.uint8), np.zeros(1, dtype=int)
    with pytest.raises(UserError, match="background 1 is white as the digits are"):
        paint(grey, bias, ((255, 0, 0), (255, 255, 255)))
    with pytest.raises(UserError, match=r"backgrounds 0 and 2 are both \(255, 0, 0\)"):
        paint(grey, bias, ((255, 0, 0), (0, 255, 0), (255, 0, 0)))
    assert len(set(PALETTE)) == len(set(COLOUR_NAMES)) == 10


def test_the_two_test_sets_are_of_the_same_digits():
    task = build()
    biased = task.extra_tests["biased"]
    assert torch.equal(biased.ids, task.test.ids) and torch.equal(biased.target, task.test.target)
    assert biased.bias is not None and task.test.bias is not None
    assert torch.equal(biased.bias, biased.target)
    # Of 40 images a class 4 are aligned.
    assert int((task.test.bias == task.test.target).sum()) == 40
    white = [(images == 255).all(1) for images in (task.test.images, biased.images)]
    assert torch.equal(*white)


def digits_of(split) -> set[bytes]:
    return {lit.numpy().tobytes() for lit in (split.images == 255).all(1)}


def test_clean_validation_shares_no_digit_with_training():
    task = build(validation="unbiased")
    assert task.valid is not None and task.selection == "valid_unbiased"
    assert (len(task.train), len(task.valid)) == (300, 100)
    assert set(task.train.ids.tolist()).isdisjoint(task.valid.ids.tolist())
    assert digits_of(task.train).isdisjoint(digits_of(task.valid))
    for split, aligned in ((task.train, 270), (task.valid, 10)):
        assert split.bias is not None
        assert int((split.bias == split.target).sum()) == aligned


def test_published_validation_is_of_training_digits():
    task = build(validation="overlapping")
    assert task.valid is not None and task.selection == "valid_overlapping"
    assert (len(task.train), len(task.valid)) == (400, 100)
    assert set(task.valid.ids.tolist()) < set(task.train.ids.tolist())
    assert digits_of(task.valid) < digits_of(task.train)
    assert task.valid.bias is not None
    assert int((task.valid.bias == task.valid.target).sum()) == 10


@pytest.mark.parametrize(("validation", "fraction"), [("biased", 0.25), ("unbiased", 0), ("overlapping", 0)])
def test_no_validation_images_are_made(validation, fraction):
    task = build(validation=validation, fraction=fraction)
    assert task.valid is None and len(task.train) == 400
    assert task.selection == VALIDATIONS[validation]


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_fraction_that_leaves_no_images(fraction):
    with pytest.raises(UserError, match="leaves a part empty"):
        build(fraction=fraction)


def test_reverse_exchanges_target_and_bias():
    task, back = build(), build(reverse=True)
    assert back.train.bias is not None and task.train.bias is not None
    assert torch.equal(task.train.bias, back.train.target) and torch.equal(task.train.target, back.train.bias)
    assert torch.equal(back.extra_tests["biased"].target, task.extra_tests["biased"].target)
    assert (back.target_names, back.bias_names) == (task.bias_names, task.target_names)
    assert back.bias_colours is None and task.bias_colours is not None
    assert task.bias_colours[6].tolist() == pytest.approx([1, 128 / 255, 0])


def test_the_key_names_all_arguments():
    plain = (0.9, 9, 0, "unbiased", 0.25)
    others = [(0.8, *plain[1:]), (0.9, 8, *plain[2:]), (0.9, 9, 1, *plain[3:])]
    others += [(0.9, 9, 0, "biased", 0.25), (0.9, 9, 0, "unbiased", 0.5)]
    assert len({data_key(source(), *arguments) for arguments in [plain, *others]}) == 6
    assert data_key(source(), *plain) == data_key(source(), *plain)
    assert data_key(source(30), *plain) != data_key(source(), *plain)
