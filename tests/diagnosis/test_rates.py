"""Rates of made networks and operators, whose answers are known; intervals; and words that follow from them."""

import pytest
import torch
from torch import Tensor

from debias.data.operators import CONTROL, OPERATORS
from debias.data.properties.intervals import Share, beyond
from debias.data.properties.prediction import Predicted
from debias.diagnosis.rates import Moved, draw_pairs, measure
from debias.diagnosis.verdict import convincing, judge, plain_words


def test_wilson_intervals_against_published_values() -> None:
    # Newcombe 1998, table I, method 3
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        share = Share(hits, n)
        assert share.low == pytest.approx(low, abs=1e-4) and share.high == pytest.approx(high, abs=1e-4)
    assert (Share(0, 0).low, Share(0, 0).high) == (0.0, 1.0)
    assert beyond(0.5, 0.5) == 0 and beyond(1, 0.3) == 1 and beyond(0.55, 0.1) == pytest.approx(0.5)


def coloured(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose class is in the mean of the first channel; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 12, 12), generator=generator, dtype=torch.uint8)
    target = torch.arange(count) % classes
    images[:, 0] = images[:, 0] // 7
    images[:, 0] += (target * 200 // classes).to(torch.uint8)[:, None, None]
    return images, target


def by_redness(classes: int):
    """A network that reads the mean of the first channel and nothing else."""

    def network(x: Tensor) -> Tensor:
        level = (x[:, 0].mean((1, 2)) * 255 - 20) * classes / 200
        return -(level[:, None] - torch.arange(classes)).abs()

    return network


def test_pairs_differ_in_what_the_network_says_and_controls_do_not() -> None:
    answers = torch.tensor([0] * 90 + [1] * 9 + [4])
    pairs = draw_pairs(answers, 300, torch.Generator().manual_seed(0))
    assert pairs is not None
    assert bool((answers[pairs.x] != answers[pairs.z]).all()) and bool((answers[pairs.x] == answers[pairs.same]).all())
    # every answer is drawn alike, however rare
    assert torch.bincount(answers[pairs.x], minlength=5)[[0, 1, 4]].min() > 60
    assert draw_pairs(torch.zeros(10, dtype=torch.int64), 5, torch.Generator()) is None


@pytest.mark.parametrize("classes", [2, 5])
def test_a_colour_that_decides_is_named_and_nothing_else(classes: int) -> None:
    images, target = coloured(400, classes)
    network = by_redness(classes)
    answers = network(images.float() / 255).argmax(1)
    assert torch.equal(answers, target)
    pairs = draw_pairs(answers, 200, torch.Generator().manual_seed(1))
    assert pairs is not None
    operators = OPERATORS.values()
    moved = measure(operators, network, images, target, answers, pairs, classes, reader=lambda x: x.flatten(1)[:, :2])
    found = {one.operator.name: one for one in moved}
    assert found["channel_means"].transferred.value > 0.95 and found["channel_means"].chance.value < 0.05
    assert found[CONTROL].transferred.value == 0 and found[CONTROL].stays.value == 1
    assert found[CONTROL].kept is not None and found[CONTROL].kept.value == 1
    assert found["border"].effect < 0.3 and found["aspect"].effect < 0.1
    verdict = judge(moved, Share(80, 80), classes, None)
    assert verdict.kind == "named" and "the colours" in verdict.words
    assert all(share.value > 0.9 for share in found["channel_means"].to_class)


def test_a_mark_in_a_corner_is_named_with_its_place() -> None:
    images = torch.randint(0, 60, (200, 1, 30, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    target = torch.arange(200) % 2
    images[target == 1, :, 22:28, 1:8] = 255

    def network(x: Tensor) -> Tensor:
        mark = x[:, 0, 22:28, 1:8].mean((1, 2))
        return torch.stack([0.5 - mark, mark - 0.5], dim=1)

    answers = network(images.float() / 255).argmax(1)
    pairs = draw_pairs(answers, 100, torch.Generator().manual_seed(0))
    assert pairs is not None
    verdict = judge(measure(OPERATORS.values(), network, images, target, answers, pairs, 2), Share(60, 60), 2, None)
    assert verdict.operator == "patch_2_0"
    assert verdict.words.startswith("the shortcut is a mark in the lower left corner")


def test_being_disturbed_is_no_shortcut() -> None:
    """A network that says class 1 to whatever is unusual: with two classes half of the pairs end at the donor's."""
    images = torch.zeros(100, 3, 12, 12, dtype=torch.uint8)
    target = torch.arange(100) % 2
    images[target == 1, :, 5, 5] = 255

    def network(x: Tensor) -> Tensor:
        unusual = (x.sum((1, 2, 3)) > 0.5).float()
        return torch.stack([0.5 - unusual, unusual - 0.5], dim=1)

    def broken(x: Tensor, z: Tensor) -> Tensor:
        return torch.ones_like(x)

    operator = OPERATORS["mix"].__class__("broken", "everything", "everything", broken)
    answers = network(images.float() / 255).argmax(1)
    pairs = draw_pairs(answers, 200, torch.Generator().manual_seed(0))
    assert pairs is not None
    one = measure([operator], network, images, target, answers, pairs, 2)[0]
    assert 0.4 < one.transferred.value < 0.6
    assert abs(one.effect) < 0.1 and not convincing([one])


def made(name: str, hits: int, change: float, chance: float = 0.0, told: int | None = None) -> Moved:
    told_hits = hits if told is None else told
    return Moved(
        OPERATORS[name], Share(hits, 100), Share(100 - hits, 100), Share(chance, 100), Share(told_hits, 100),
        Share(chance, 100), None, change, (),
    )  # fmt: skip


def test_the_least_change_of_those_that_move_most_is_named() -> None:
    moved = [made("background", 99, 0.2), made("patch_2_2", 95, 0.03), made("blur", 70, 0.001)]
    # The background takes a corner along, and is no name for it.
    assert [one.operator.name for one in convincing(moved)] == ["patch_2_2"]
    verdict = judge(moved, Share(95, 100), 2, None)
    assert "lower right corner" in verdict.words and "next:" not in verdict.words


@pytest.mark.parametrize(
    ("moved", "accuracy", "corrected", "kind"),
    [
        ([made("histogram", 55, 0.1)], 0.9, None, "none"),
        ([made("histogram", 95, 0.1, told=60)], 0.9, None, "none"),
        ([made("mix", 99, 0.1)], 0.9, None, "none"),
        ([made("histogram", 55, 0.1)], 0.9, Share(95, 100), "unmoved"),
        ([made("histogram", 55, 0.1)], 0.9, Share(9, 9), "none"),
        ([made("histogram", 99, 0.1)], 0.5, None, "unlearnt"),
        ([], 0.9, None, "unlearnt"),
        ([made("histogram", 99, 0.1)], 0.9, Share(95, 100), "named"),
    ],
)
def test_verdicts(moved: list[Moved], accuracy: float, corrected: Share | None, kind: str) -> None:
    verdict = judge(moved, Share(100 * accuracy, 100), 2, corrected)
    assert verdict.kind == kind and verdict.words and verdict.sure and verdict.doubt
    assert (verdict.operator != "") == (kind == "named")


def test_a_plain_property_is_told_when_it_predicts() -> None:
    good, poor = Predicted("brightness", Share(95, 100), 0.5), Predicted("contrast", Share(60, 100), 0.5)
    assert plain_words([good, poor]) == ["brightness alone predicts the class of 95% of the images (by chance 50%)"]
