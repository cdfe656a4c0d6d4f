import numpy as np
import pytest
import torch

from debias.data.generated.colored import (
    PALETTE,
    PLACEMENTS,
    as_task,
    assign_bias,
    build_arrays,
    colour_images,
    data_key,
)
from debias.data.sources.idx import MNIST_NAMES, Source
from debias.data.split import Task
from debias.errors import UserError

# Training images of MNIST by digit.
MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def mnist_labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10), MNIST_COUNTS))


def source(n: int = 200) -> Source:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2 * n, 28, 28), dtype=np.uint8)
    labels = np.arange(n) % 10
    return Source(images[:n], labels, images[n:], labels, MNIST_NAMES, np.arange(n) + 7, np.arange(n))


def build(skew: float, severity: int, seed: int, reverse: bool = False) -> Task:
    arrays, key = build_arrays(source(), skew, severity, seed), data_key(source(), skew, severity, seed)
    return as_task(arrays, name="colored", names=MNIST_NAMES, key=key, reverse=reverse)


@pytest.mark.parametrize(
    ("skew", "aligned"),
    [
        # round(n (1 - skew)), worked out by hand from the counts.
        (0.05, [5627, 6405, 5660, 5824, 5550, 5150, 5622, 5952, 5558, 5652]),
        (0.02, [5805, 6607, 5839, 6008, 5725, 5313, 5800, 6140, 5734, 5830]),
        (0.01, [5864, 6675, 5898, 6070, 5784, 5367, 5859, 6202, 5792, 5890]),
        (0.005, [5893, 6708, 5928, 6100, 5813, 5394, 5888, 6234, 5822, 5919]),
        (0.9, [592, 674, 596, 613, 584, 542, 592, 626, 585, 595]),
    ],
)
def test_counts_on_mnist(skew, aligned):
    target = mnist_labels()
    bias = assign_bias(target, skew, 10)
    cells = np.zeros((10, 10), dtype=int)
    np.add.at(cells, (target, bias), 1)
    assert cells.diagonal().tolist() == aligned
    assert cells.sum(1).tolist() == MNIST_COUNTS
    for label in range(10):
        others = np.delete(cells[label], label)
        assert others.max() - others.min() <= 1


def test_bias_follows_the_order_of_the_data():
    # Two of four images of class 1 conflict, in order over classes 0 and 2; likewise in class 0 over 1 and 2.
    target = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    assert assign_bias(target, 0.5, 3, "last").tolist() == [1, 0, 1, 0, 0, 1, 2, 2]
    # Class 1: biases 0, 1, 1, 2; class 0: 0, 0, 1, 2.
    assert assign_bias(target, 0.5, 3, "blocks").tolist() == [0, 0, 1, 0, 1, 1, 2, 2]


def test_placements_agree_in_counts():
    target = mnist_labels()
    cells = [np.bincount(target * 10 + assign_bias(target, 0.03, 10, name), minlength=100) for name in PLACEMENTS]
    assert cells[0].tolist() == cells[1].tolist()


def test_unknown_placement():
    with pytest.raises(UserError, match="blocks, last"):
        assign_bias(np.arange(10), 0.1, 10, "first")


def test_uneven_rest():
    # Five conflicting images over three others: sizes 2, 2, 1.
    assert assign_bias(np.full(5, 2), 1.0, 4).tolist() == [0, 0, 1, 1, 3]


@pytest.mark.parametrize("skew", [0, 1])
def test_extreme_skews(skew):
    target = np.arange(100) % 10
    assert ((assign_bias(target, skew, 10) != target) == bool(skew)).all()


@pytest.mark.parametrize("skew", [-0.1, 1.1, float("nan")])
def test_skew_out_of_range(skew):
    with pytest.raises(UserError, match=r"skew=.*\[0, 1\]"):
        assign_bias(np.arange(10), skew, 10)


def test_palette_values_without_noise():
    grey = np.array([0, 100, 255], dtype=np.uint8).reshape(1, 1, 3).repeat(2, axis=0)
    images = colour_images(grey, np.array([0, 4]), 0.0, torch.Generator())
    # .9837 * 100 = 98.37, .3125 * 255 = 79.69, .0880 * 255 = 22.44, ...
    assert images[:, :, 0].tolist() == [
        [[0, 98, 251], [0, 31, 80], [0, 17, 43]],
        [[0, 9, 22], [0, 78, 198], [0, 98, 250]],
    ]


def test_colours_are_clamped():
    grey = np.full((300, 1, 1), 255, dtype=np.uint8)
    colour = colour_images(grey, np.zeros(300, dtype=int), 5.0, torch.Generator().manual_seed(0))
    # Unclamped values would wrap around; with so wide a spread most channels end at a limit.
    assert ((colour == 0) | (colour == 255)).mean() > 0.8


def test_noise_has_the_given_spread_and_is_one_colour_an_image():
    grey = np.full((20_000, 1, 2), 255, dtype=np.uint8)
    colour = colour_images(grey, np.full(20_000, 2), 0.05, torch.Generator().manual_seed(0))[:, :, 0] / 255
    np.testing.assert_array_equal(colour[:, :, 0], colour[:, :, 1])
    np.testing.assert_allclose(colour[:, :, 0].mean(0), PALETTE[2], atol=2e-3)
    np.testing.assert_allclose(colour[:, :, 0].std(0), 0.05, atol=2e-3)
    correlation = np.asarray(np.corrcoef(colour[:, :, 0].T))
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.03)


def test_batched_equals_one_image_at_a_time():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (1203, 4, 5), dtype=np.uint8)
    bias = rng.integers(0, 10, 1203)
    fast = colour_images(grey, bias, 0.02, torch.Generator().manual_seed(3))
    noise = torch.randn(1203, 3, generator=torch.Generator().manual_seed(3)).numpy()
    for k in range(1203):
        colour = np.clip(np.array(PALETTE[bias[k]], dtype=np.float32) + np.float32(0.02) * noise[k], 0, 1)
        slow = np.rint(colour[:, None, None] * grey[k])
        # Float32 arithmetic may round a product that is nearly a half the other way.
        assert np.abs(fast[k] - slow).max() <= 1
        assert (fast[k] != slow).mean() < 0.05


def test_same_seed_same_images_other_seed_other_noise():
    first, again, other = (build(0.1, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.images, again.train.images)
    assert first.key == again.key
    assert not torch.equal(first.train.images, other.train.images)
    assert first.train.bias is not None
    assert other.train.bias is not None
    assert torch.equal(first.train.bias, other.train.bias)
    assert first.key != other.key


def test_train_and_test_noise_differ():
    white = np.full((200, 28, 28), 255, dtype=np.uint8)
    labels = np.arange(200) % 10
    same = Source(white, labels, white, labels, MNIST_NAMES, np.arange(200), np.arange(200))
    arrays = build_arrays(same, 0.9, 1, seed=0)
    np.testing.assert_array_equal(arrays["train_bias"], arrays["test_bias"])
    equal = (arrays["train_images"][:, :, 0, 0] == arrays["test_images"][:, :, 0, 0]).mean()
    assert equal < 0.15


def test_test_set_is_a_tenth_aligned():
    task = build(0.01, 4, 0)
    for split, aligned in ((task.train, 200), (task.test, 20)):
        # 20 images a class: round(19.8) = 20 and round(2) = 2 aligned.
        assert split.bias is not None
        assert int(split.target.eq(split.bias).sum()) == aligned


def test_task_carries_names_colours_and_ids():
    task = build(0.1, 2, 0)
    assert task.target_names == MNIST_NAMES
    assert (task.n_targets, task.n_biases, task.image_shape) == (10, 10, (3, 28, 28))
    assert task.bias_colours is not None
    assert task.bias_colours.shape == (10, 3)
    assert task.train.ids.tolist() == list(range(7, 207))
    assert (task.mean, task.std, task.augment, task.valid) == (None, None, None, None)


def test_reverse_exchanges_target_and_bias():
    task, back = (build(0.1, 2, 0, reverse) for reverse in (False, True))
    assert torch.equal(task.train.images, back.train.images)
    assert back.train.bias is not None
    assert task.train.bias is not None
    assert torch.equal(task.train.target, back.train.bias)
    assert torch.equal(task.train.bias, back.train.target)
    assert (back.target_names, back.bias_names) == (task.bias_names, task.target_names)
    assert back.bias_colours is None
    assert back.key != task.key


def test_key_names_source_skew_severity_and_seed():
    first = source()
    other = source()
    other.train_images[0, 0, 0] ^= 1
    keys = {
        data_key(first, 0.1, 2, 0),
        data_key(other, 0.1, 2, 0),
        data_key(first, 0.2, 2, 0),
        data_key(first, 0.1, 3, 0),
        data_key(first, 0.1, 2, 1),
    }
    assert len(keys) == 5
    assert data_key(source(), 0.1, 2, 0) in keys


@pytest.mark.parametrize("severity", [0, 6])
def test_severity_out_of_range(severity):
    with pytest.raises(UserError, match=f"severity={severity}"):
        build_arrays(source(), 0.1, severity, 0)
