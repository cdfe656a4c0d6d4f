"""Sample sheets: which images stand on them, what is written below, and a command that leaves one for every part."""

from dataclasses import replace

import pytest
import torch

from debias.commands.samples import captions, in_turn, sample_sheets, shown
from debias.data.split import Split
from tests.sheets import sheet_on


def split(target: list[int], bias: list[int] | None, side: int = 14, vector: torch.Tensor | None = None) -> Split:
    labels = None if bias is None else torch.tensor(bias)
    images = torch.zeros(len(target), 1, side, side, dtype=torch.uint8)
    return Split(images, torch.tensor(target), labels, torch.arange(len(target)), vector)


def test_biases_take_turns():
    part = split([0, 0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 2, 1, 1, 2, 1])
    # Of class 0 one of each of the biases 0, 1, 2 and then a second one of bias 0, in the order of biases.
    assert in_turn(part, each=4).tolist() == [0, 1, 5, 3, 4, 7]
    assert in_turn(part, each=2).tolist() == [0, 5, 4, 7]
    assert in_turn(split([1, 0, 1], None), each=1).tolist() == [1, 0]


def test_captions(task):
    part = task.test.subset(torch.arange(3))
    names = [f"{task.target_names[t]}\n{task.bias_names[b]}" for t, b in zip(part.target, part.bias, strict=True)]
    assert captions(task, part) == names
    assert captions(task, part.without_bias()) == [name.split("\n")[0] for name in names]


def test_a_colour_beside_an_image_is_a_strip_below_it():
    part = split([0, 1], None, vector=torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    sheet = shown(part)
    assert sheet.shape == (2, 3, 16, 14)
    assert bool((sheet[:, :, :14] == 0).all())
    assert sheet[0, :, 15, 3].tolist() == [255, 128, 0] and sheet[1, :, 14, 0].tolist() == [0, 0, 255]
    for vector in (None, torch.zeros(2, 5)):
        assert torch.equal(shown(split([0, 1], None, vector=vector)), part.images)


@pytest.mark.parametrize("held_out", [True, False])
def test_a_sheet_for_every_part_with_a_row_for_every_class(task, tmp_path, canvases, held_out):
    task = replace(task, valid=task.valid if held_out else None, extra_tests={"grey": task.test.without_bias()})
    paths = list(sample_sheets(task, tmp_path))
    expected = ["train", *(["valid"] if held_out else []), "test", "grey"]
    assert [path.name for path in paths] == [f"samples-{part}.png" for part in expected]
    drawn = dict(zip(expected, map(sheet_on, canvases), strict=True))
    # The rarest class among the 100 test images decides how many stand in a row.
    rarest = int(torch.bincount(task.test.target).min())
    assert rarest < 10
    for part, each in (("train", 10), ("test", rarest)):
        named = [caption.split("\n")[0] for caption in drawn[part].captions]
        assert named == [name for name in task.target_names for _ in range(each)] and drawn[part].columns == each


def test_the_command(command, tmp_path):
    assert command("dataset=biased_digits", name="samples") == 0
    found = {path.name for path in (tmp_path / "runs" / "1").glob("*.png")}
    assert found == {f"samples-{part}.png" for part in ("train", "valid", "test", "biased")}


@pytest.mark.parametrize("conflicting", [True, False])
def test_conflicting_images_are_named_only_where_there_are_any(task, tmp_path, canvases, conflicting):
    """Jittered colours, for one, always go with their digit in training."""
    train = task.train if conflicting else replace(task.train, bias=task.train.target)
    next(sample_sheets(replace(task, train=train), tmp_path))
    assert ("conflicting" in sheet_on(canvases[0]).title) == conflicting
