import pytest
import torch

from debias.data.augment import crop_flip
from debias.data.batches import Batches
from debias.data.split import Split
from debias.errors import UserError


def make_split(n: int = 50) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 6, 6), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(n) % 10, torch.arange(n) % 7, torch.arange(n))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_image_once_with_its_own_labels():
    split = make_split()
    seen = []
    for batch in Batches(split, 16).epoch(seeded(1)):
        assert batch.bias is not None
        for row, k in enumerate(batch.index.tolist()):
            seen.append(k)
            # Scaling multiplies by a rounded 1/255.
            torch.testing.assert_close(batch.images[row], split.images[k].float() / 255, rtol=1e-6, atol=0)
            assert (int(batch.target[row]), int(batch.bias[row])) == (k % 10, k % 7)
    assert sorted(seen) == list(range(50))
    assert seen != sorted(seen)


def test_normalisation_by_hand():
    split = Split(
        torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1),
        torch.zeros(1).long(),
        None,
        torch.zeros(1).long(),
    )
    (batch,) = Batches(split, 4, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.1), shuffle=False).epoch()
    torch.testing.assert_close(batch.images.flatten(), torch.tensor([-1.0, 3.0, 0.0]), rtol=0, atol=1e-6)
    assert batch.bias is None


def test_augmentation_comes_before_normalisation():
    split = make_split(8)
    (batch,) = Batches(split, 8, mean=(0.5,) * 3, std=(0.5,) * 3, augment="crop_flip", shuffle=False).epoch(seeded(3))
    expected = (crop_flip(split.images.float() / 255, seeded(3)) - 0.5) / 0.5
    torch.testing.assert_close(batch.images, expected)
    assert batch.images.min() == -1


def test_the_same_generator_state_gives_the_same_epoch():
    batches = Batches(make_split(), 16, augment="crop_flip")

    def epoch(seed):
        return torch.cat([batch.images for batch in batches.epoch(seeded(seed))])

    assert torch.equal(epoch(4), epoch(4))
    assert not torch.equal(epoch(4), epoch(5))


def test_epochs_of_one_generator_differ():
    batches, generator = Batches(make_split(), 50), seeded(0)
    first, second = (next(iter(batches.epoch(generator))).index.tolist() for _ in range(2))
    assert first != second


@pytest.mark.parametrize(("n", "sizes"), [(49, [16] * 3), (50, [16, 16, 16, 2]), (48, [16] * 3), (1, [1])])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_last_batch_of_one_is_left_out_when_asked(n, sizes, shuffle):
    batches = Batches(make_split(n), 16, drop_single=True, shuffle=shuffle)
    assert len(batches) == len(sizes)
    assert [len(batch.index) for batch in batches.epoch(seeded(0))] == sizes
    if shuffle:
        assert len(batches.order(seeded(0))) == sum(sizes)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [16, 16, 16, 2]), (True, [16, 16, 16])])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batch_sizes(drop_last, sizes, shuffle):
    batches = Batches(make_split(), 16, drop_last=drop_last, shuffle=shuffle)
    assert len(batches) == len(sizes)
    assert [len(batch.index) for batch in batches.epoch(seeded(0))] == sizes


def test_in_order():
    split = make_split()
    batches = list(Batches(split, 16, shuffle=False).epoch())
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(50))
    assert torch.equal(torch.cat([batch.target for batch in batches]), split.target)
    torch.testing.assert_close(torch.cat([batch.images for batch in batches]), split.images / 255)


def test_changing_a_batch_leaves_the_split_alone():
    split = make_split()
    before = split.images.clone()
    for shuffle in (True, False):
        for batch in Batches(split, 50, shuffle=shuffle).epoch(seeded(0)):
            batch.images.zero_()
    assert torch.equal(split.images, before)


def test_weighted_frequencies():
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0])
    batches = Batches(make_split(4), 1000, weights=weights, draws=40_000)
    assert len(batches) == 40
    index = torch.cat([batch.index for batch in batches.epoch(seeded(0))])
    share = torch.bincount(index, minlength=4) / 40_000
    # The standard error of each share is below .0025.
    torch.testing.assert_close(share, weights / 8, rtol=0, atol=0.01)
    assert share[0] == 0


def test_weighted_epoch_is_as_long_as_the_split_by_default():
    batches = Batches(make_split(50), 16, weights=torch.ones(50))
    index = torch.cat([batch.index for batch in batches.epoch(seeded(0))])
    assert len(index) == 50
    assert len(index.unique()) < 50


def test_draws_without_weights_bring_every_image_once_before_any_comes_again():
    batches = Batches(make_split(10), 4, draws=25)
    index = torch.cat([batch.index for batch in batches.epoch(seeded(0))])
    assert len(index) == 25
    assert sorted(index[:10].tolist()) == sorted(index[10:20].tolist()) == list(range(10))
    assert len(index[20:].unique()) == 5
    assert index[:10].tolist() != index[10:20].tolist()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mean": (0.5,) * 3}, "go together"),
        ({"mean": (0.5,), "std": (0.5,)}, "one a channel"),
        ({"draws": 10, "shuffle": False}, "shuffle=False"),
        ({"weights": torch.ones(50), "shuffle": False}, "shuffle=False"),
        ({"weights": torch.ones(49)}, "one an image"),
        ({"weights": torch.zeros(50)}, "not all zero"),
        ({"weights": -torch.ones(50)}, "non-negative"),
        ({"weights": torch.full((50,), float("nan"))}, "finite"),
    ],
)
def test_contradicting_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Batches(make_split(), 16, **kwargs)


@pytest.mark.parametrize(
    ("size", "kwargs", "message"),
    [
        (0, {}, "at least one image"),
        (51, {"drop_last": True}, "do not make one batch"),
        (16, {"augment": "blur"}, "available: flip, crop_flip"),
    ],
)
def test_settings_a_person_can_mend(size, kwargs, message):
    with pytest.raises(UserError, match=message):
        Batches(make_split(), size, **kwargs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="host syncs exist only with a CUDA device")
@pytest.mark.parametrize("weighted", [False, True])
def test_no_host_sync_within_an_epoch(weighted):
    split = make_split().to("cuda")
    weights = torch.ones(50) if weighted else None
    batches = Batches(split, 16, mean=(0.5,) * 3, std=(0.5,) * 3, augment="crop_flip", weights=weights)
    generator = torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert sum(batch.images.shape[0] for batch in batches.epoch(generator)) == 50
    finally:
        torch.cuda.set_sync_debug_mode("default")
