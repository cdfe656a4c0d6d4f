"""What is looked at: how many images, how large, without bias labels; and data of which nothing can be said."""

from dataclasses import replace

import pytest
import torch

from debias.data.properties.looked_at import is_grey, reduced
from debias.data.split import Split, Task
from debias.diagnosis.prepare import prepared
from debias.errors import UserError


def task_of(counts: list[int], side: int = 8, channels: int = 3) -> Task:
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.randint(0, 255, (len(target), channels, side, side), dtype=torch.uint8)
    split = Split(images, target, target.clone(), torch.arange(len(target)))
    names = tuple(f"class {i}" for i in range(len(counts)))
    return Task("made", split, split, None, names, names, "key", mean=(0.5,) * channels, std=(0.5,) * channels)


def test_some_images_of_every_class_without_bias() -> None:
    task = prepared(task_of([900, 60, 40]), 200, seed=1)
    assert task.valid is not None and task.train.bias is None and task.valid.bias is None and task.test.bias is None
    assert task.mean is None and task.augment is None
    counts = torch.bincount(torch.cat([task.train.target, task.valid.target]))
    # rare classes keep what they need
    assert counts.tolist() == [180, 20, 20]
    assert not set(task.train.ids.tolist()) & set(task.valid.ids.tolist())
    again = prepared(task_of([900, 60, 40]), 200, seed=1)
    assert torch.equal(again.train.ids, task.train.ids)


def test_large_images_are_averaged_down() -> None:
    checks = (torch.arange(128)[:, None] + torch.arange(128)) % 2 * 200
    images = checks.to(torch.uint8).expand(2, 3, 128, 128)
    assert torch.equal(reduced(images), torch.full((2, 3, 64, 64), 100, dtype=torch.uint8))
    assert reduced(images[..., :96]).shape == (2, 3, 64, 48)
    assert reduced(images[..., :20, :20]).shape == (2, 3, 20, 20)


def test_grey() -> None:
    grey = torch.randint(0, 255, (5, 1, 4, 4), dtype=torch.uint8)
    assert is_grey(grey) and is_grey(grey.expand(-1, 3, -1, -1))
    coloured = grey.expand(-1, 3, -1, -1).clone()
    coloured[3, 0] = 255 - coloured[3, 1]
    assert not is_grey(coloured)


@pytest.mark.parametrize(
    ("counts", "said"),
    [([100], "one class"), ([100, 12], "class 1 (12)"), ([12, 12], "at least 20 of each class")],
)
def test_too_little_is_said_so(counts: list[int], said: str) -> None:
    with pytest.raises(UserError) as told:
        prepared(task_of(counts), 1000, 1)
    assert said in str(told.value)


def test_a_second_modality_is_refused() -> None:
    task = task_of([40, 40])
    with_vector = replace(task, train=replace(task.train, vector=torch.zeros(80, 3)))
    with pytest.raises(UserError, match="second modality"):
        prepared(with_vector, 1000, 1)
