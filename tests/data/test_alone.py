"""Properties that alone tell the class: colours, marks, both beside each other, and none."""

import pytest
import torch

from debias.data.operators import OPERATORS
from debias.data.operators.base import combined, moved
from debias.data.properties.alone import logits_by, operator_of, telling_alone
from debias.data.properties.prediction import scores_of

SIDE = 32


def made(count: int, *kinds: str, conflicting: float = 0.03, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose class shows in colours, in a mark in the lower right corner, in both or in nothing."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % 2
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    images = 60 + 120 * torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    images += 8 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    for kind in kinds:
        looks = torch.where(torch.rand(count, generator=generator) < conflicting, 1 - target, target)
        if kind == "colour":
            images[:, 0] += 50 * looks[:, None, None]
            images[:, 2] += 50 * (1 - looks)[:, None, None]
        else:
            lines = torch.zeros(2, 7, 7)
            lines[0, ::3], lines[1, :, ::3] = 1.0, 1.0
            corner = images[:, :, -8:-1, -8:-1]
            images[:, :, -8:-1, -8:-1] = torch.where(lines[looks][:, None] > 0, torch.tensor(240.0), corner)
    return images.clamp(0, 255).to(torch.uint8), target


@pytest.mark.parametrize(
    ("kinds", "named"),
    [
        ((), set()),
        (("colour",), {"the colours"}),
        (("mark",), {"the lower right corner"}),
        (("colour", "mark"), {"the colours", "the lower right corner"}),
    ],
)
def test_what_alone_tells_the_class_is_named_and_nothing_else(kinds, named):
    images, target = made(1200, *kinds)
    found = telling_alone(images, target, 2, seed=1)
    assert {one.operator.where for one in found} == named
    assert len(found) == len(named)


def test_images_that_go_against_the_property_come_first():
    images, target = made(600, "colour", seed=3)
    red, blue = images[:, 0].float().mean((1, 2)), images[:, 2].float().mean((1, 2))
    against = (red > blue).long() != target
    said, beside = logits_by(["mean colour"], images, target, 2, seed=1)
    odds = (said.gather(1, (1 - target)[:, None]) - said.gather(1, target[:, None]))[:, 0]
    first = torch.argsort(odds, descending=True)[: int(against.sum())]
    assert against[first].float().mean() > 0.8 > 10 * against.float().mean()
    assert beside.shape == (0, 2)


def test_other_images_are_told_by_all_that_are_known():
    images, target = made(400, "colour", conflicting=0.0)
    others, truth = made(100, "colour", conflicting=0.0, seed=9)
    _, said = logits_by(["mean colour"], images, target, 2, seed=1, others=others)
    assert float((said.argmax(1) == truth).float().mean()) > 0.95


def test_an_image_is_not_told_by_its_own_label():
    values = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    target = torch.arange(100) % 2
    before, _ = scores_of(values, target, 2, seed=1)
    changed = target.clone()
    changed[[0, 1]] = changed[[1, 0]]
    after, _ = scores_of(values, changed, 2, seed=1)
    assert not torch.allclose(before, after)
    # Swapping two labels of a fold moves what is said of images elsewhere, never of these two by themselves.
    generator = torch.Generator().manual_seed(1)
    fold = torch.randperm(100, generator=generator) % 5
    same = torch.nonzero(fold == fold[0]).flatten()
    mates = [int(one) for one in same if target[one] != target[0]]
    swapped = target.clone()
    swapped[0], swapped[mates[0]] = target[mates[0]], target[0]
    again, _ = scores_of(values, swapped, 2, seed=1)
    torch.testing.assert_close(again[same], before[same])


def test_several_operators_take_the_properties_of_one_donor():
    x, z = torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 3, SIDE, SIDE)
    both = combined([OPERATORS["brightness"], OPERATORS["patch_2_2"]])
    assert both.name == "brightness+patch_2_2" and both.where == "the brightness and the lower right corner"
    wanted = OPERATORS["patch_2_2"].apply(OPERATORS["brightness"].apply(x, z), z)
    torch.testing.assert_close(both.apply(x, z), wanted)
    torch.testing.assert_close(both.apply(x, x), x, atol=1e-5, rtol=0)
    assert combined([OPERATORS["border"]]) is OPERATORS["border"]
    thorough = combined([OPERATORS["blur"], OPERATORS["patch_2_2"]])
    wanted = OPERATORS["patch_2_2"].apply(OPERATORS["blur"].taking_away(x, z), z)
    torch.testing.assert_close(thorough.taking_away(x, z), wanted)
    assert not torch.allclose(thorough.apply(x, z), wanted, atol=1e-2)
    assert operator_of([]) is OPERATORS["nothing"]


def test_images_get_the_property_of_the_donors_that_are_named():
    images = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (10, 200, 90)])
    given = moved(OPERATORS["brightness"].apply, images, torch.tensor([1, 2, 2]))
    assert given.flatten(1).float().mean(1).tolist() == [200, 90, 90]
    assert given.dtype == torch.uint8
