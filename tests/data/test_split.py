from dataclasses import replace

import pytest
import torch

from debias.data.split import Split, Task, hold_out
from debias.errors import UserError


def make_split(target: list[int]) -> Split:
    n = len(target)
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()
    labels = torch.tensor(target)
    return Split(images, labels, 9 - labels, torch.arange(n) + 100)


def test_subset_keeps_every_column_together():
    part = make_split([3, 1, 4, 1, 5]).subset(torch.tensor([4, 0, 0]))
    assert part.images[:, 0, 0, 0].tolist() == [4, 0, 0]
    assert part.target.tolist() == [5, 3, 3]
    assert part.bias is not None
    assert part.bias.tolist() == [4, 6, 6]
    assert part.ids.tolist() == [104, 100, 100]


def test_without_bias_withholds_only_the_bias():
    split = make_split([0, 1])
    blind = split.without_bias()
    assert blind.bias is None
    assert blind.images is split.images
    assert split.bias is not None
    assert blind.subset(torch.tensor([1])).bias is None


@pytest.mark.parametrize(
    ("images", "target", "bias"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2).long(), None),
        (torch.zeros(2, 2, 2).byte(), torch.zeros(2).long(), None),
        (torch.zeros(2, 1, 2, 2).byte(), torch.zeros(3).long(), None),
        (torch.zeros(2, 1, 2, 2).byte(), torch.zeros(2).long(), torch.zeros(2).int()),
    ],
)
def test_split_refuses_wrong_shapes_and_types(images, target, bias):
    with pytest.raises(ValueError, match="must be"):
        Split(images, target, bias, torch.arange(2))


def test_hold_out_takes_the_rounded_share_of_every_target():
    split = make_split([0] * 10 + [1] * 24 + [2] * 3)
    train, valid = hold_out(split, 0.25, seed=0)
    # round(2.5) = 2 (half to even), round(6) = 6, round(.75) = 1
    assert torch.bincount(valid.target).tolist() == [2, 6, 1]
    assert sorted([*train.ids.tolist(), *valid.ids.tolist()]) == split.ids.tolist()
    assert train.ids.tolist() == sorted(train.ids.tolist())


def test_hold_out_depends_on_the_seed_only():
    split = make_split([0] * 30 + [1] * 30)
    first, again, other = (hold_out(split, 0.2, seed)[1].ids.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    blind = hold_out(split.without_bias(), 0.2, 1)[1]
    assert blind.ids.tolist() == first


def test_hold_out_draws_all_over_a_class():
    split = make_split([0] * 200)
    held = hold_out(split, 0.5, seed=3)[1].ids - 100
    assert 30 < int((held < 100).sum()) < 70


def test_hold_out_of_nothing_keeps_everything():
    split = make_split([0, 1, 2])
    train, valid = hold_out(split, 0, seed=0)
    assert train.ids.tolist() == split.ids.tolist()
    assert len(valid) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_hold_out_outside_its_range(fraction):
    with pytest.raises(UserError, match=r"valid_fraction.*\[0, 1\)"):
        hold_out(make_split([0, 1]), fraction, seed=0)


@pytest.mark.parametrize(("fraction", "part"), [(0.01, "held-out"), (0.99, "training")])
def test_hold_out_leaves_no_part_empty(fraction, part):
    with pytest.raises(UserError, match=f"{part} part empty"):
        hold_out(make_split([0, 0, 1, 1]), fraction, seed=0)


def test_task_counts_classes_by_their_names():
    split = make_split([0, 1])
    task = Task("t", split, split, None, ("a", "b", "c"), None, "key")
    assert (task.n_targets, task.n_biases, task.image_shape) == (3, 0, (3, 2, 2))
    moved = replace(task, extra_tests={"grey": split}).to("meta")
    assert moved.train.device.type == moved.test.device.type == moved.extra_tests["grey"].device.type == "meta"
    assert moved.valid is None


@pytest.mark.parametrize("name", ["grey/unbiased", "a@b", "", "two words"])
def test_names_that_could_be_read_as_another_figure(name):
    split = make_split([0, 1])
    task = Task("t", split, split, None, ("a", "b"), None, "key")
    with pytest.raises(ValueError, match="one word"):
        replace(task, extra_tests={name: split})
    for selection in (name, f"valid_{name}/x", "oracle", "last"):
        with pytest.raises(ValueError, match="valid"):
            replace(task, selection=selection)
