"""Which property is named of those that tell the class: hand-made figures, and images with a known property."""

import math

import pytest
import torch

from debias.data.operators import OPERATORS
from debias.data.properties.descriptors import DESCRIPTORS, image_properties
from debias.data.properties.intervals import Share
from debias.data.properties.prediction import Predicted, predicted
from debias.data.properties.telling import ALONE
from debias.diagnosis.rates import Moved
from debias.diagnosis.verdict import judge, telling

NUMBERS = {"sharpness": 2, "noise": 1, "mean colour": 3, "border colour": 3, "compression": 24, "spectrum": 8}
CORNER, MIDDLE = "the lower right corner", "the middle of the image"


def told(name: str, beyond: float) -> Predicted:
    """A property that reaches so much beyond chance of two classes on very many images."""
    n = 1_000_000
    return Predicted(name, Share((0.5 + beyond / 2) * n, n), 0.5, NUMBERS.get(name, 75))


def moving(name: str, effect: float) -> Moved:
    n = 10_000
    hits = Share(effect * n, n)
    nothing = Share(0, n)
    return Moved(OPERATORS[name], hits, Share(n - effect * n, n), nothing, hits, nothing, None, 0.1, ())


@pytest.mark.parametrize(
    ("beyond", "effects", "named"),
    [
        # nothing tells enough
        ({"mean colour": 0.78}, {"channel_means": 0.5}, None),
        # the spectrum takes sharpness along, and compression is of more numbers
        (
            {"spectrum": 0.95, "sharpness": 0.88, "compression": 0.95},
            {"amplitude_all": 0.9, "blur": 0.3, "compression": 0.6},
            "blur",
        ),
        # what blur and noise do to the blocks of JPEG, compression sees as well, and tells a little more by it
        ({"compression": 0.95, "noise": 0.87}, {"compression": 0.4, "noise": 0.4}, "noise"),
        ({"compression": 0.95, "sharpness": 0.81}, {"compression": 0.6, "blur": 0.2}, "blur"),
        ({"compression": 0.97, "sharpness": 0.81}, {"compression": 0.6, "blur": 0.2}, "compression"),
        # fewer numbers do not make up for telling less
        ({"sharpness": 0.93, "noise": 0.87}, {"blur": 0.4, "noise": 0.4}, "blur"),
        ({"sharpness": 0.93, "noise": 0.91}, {"blur": 0.4, "noise": 0.4}, "noise"),
        # a corruption that no narrow property tells
        ({"spectrum": 0.95, "sharpness": 0.82}, {"amplitude_all": 0.9, "blur": 0.3}, "amplitude_all"),
        # as many numbers: what moves more
        ({"mean colour": 0.92, "border colour": 0.92}, {"channel_means": 0.7, "border": 0.4}, "channel_means"),
        ({"mean colour": 0.92, "border colour": 0.92}, {"channel_means": 0.2, "border": 0.9}, "border"),
        # what goes along with the shortcut, and no network answers by, whatever its numbers
        ({"noise": 0.94, "border colour": 0.94}, {"noise": 0.0, "border": 0.95}, "border"),
        # a cell has the colours of the whole, and a mark tells colours a little
        ({"mean colour": 0.85, MIDDLE: 0.92}, {"channel_means": 0.5, "patch_1_1": 0.3}, "channel_means"),
        ({"mean colour": 0.85, CORNER: 0.92}, {"channel_means": 0.3, "patch_2_2": 0.5}, "patch_2_2"),
        # content in the middle tells digits apart, and moves little
        ({MIDDLE: 0.9}, {"patch_1_1": 0.15}, None),
    ],
)
def test_which_is_named(beyond: dict[str, float], effects: dict[str, float], named: str | None) -> None:
    properties = [told(name, value) for name, value in beyond.items()]
    moved = [moving(name, value) for name, value in effects.items()]
    found = telling(properties, moved)
    assert (None if found is None else found[1].operator.name) == named
    verdict = judge(moved, Share(900, 1000), 2, None, properties)
    assert verdict.operator == (named or "")
    if named:
        assert "alone tells the class" in verdict.words and OPERATORS[named].where in verdict.words
    else:
        assert verdict.kind == "none" and max(beyond, key=lambda name: beyond[name]) in verdict.sure


def test_a_property_is_named_where_no_network_can_be_asked() -> None:
    """Not a cell, whose content alone may tell the classes."""
    verdict = judge([], Share(500, 1000), 2, None, [told("noise", 0.95), told(CORNER, 0.97)])
    assert (verdict.kind, verdict.operator) == ("named", "noise")
    assert "98% of the images" in verdict.words and "no small network has learnt" in verdict.words
    assert judge([], Share(500, 1000), 2, None, [told(CORNER, 0.97), told("noise", 0.7)]).kind == "unlearnt"


@pytest.mark.parametrize(("effect", "said"), [(0.05, True), (0.6, False)])
def test_a_network_that_makes_little_use_of_it_is_mentioned(effect: float, said: bool) -> None:
    verdict = judge([moving("blur", effect)], Share(900, 1000), 2, None, [told("sharpness", 0.95)])
    assert ("makes little use of it" in verdict.sure) == said


def test_compression_is_seen_in_the_colour_differences_alone() -> None:
    generator = torch.Generator().manual_seed(4)
    grey = torch.rand(40, 1, 16, 16, generator=generator) * 0.4 + 0.3
    fine = 0.1 * torch.randn(40, 1, 16, 16, generator=generator)
    # Brightness (JPEG's weights) stays as it is: red gains what blue and green lose.
    coloured = torch.cat([grey + fine, grey - fine * 0.299 / 0.587, grey], 1).clamp(0, 1)
    measure = DESCRIPTORS["compression"].measure
    plain, other = measure(grey.expand(-1, 3, -1, -1)), measure(coloured)
    half = plain.shape[1] // 2
    assert (plain[:, :half] - other[:, :half]).abs().mean() < 0.05
    assert (plain[:, half:] - other[:, half:]).mean() > 0.3


def test_a_property_whose_operator_was_not_asked_about_names_nothing() -> None:
    assert telling([told("mean colour", 0.95)], [moving("border", 0.9)]) is None
    assert telling([told("file size", 0.95)], [moving("border", 0.9)]) is None


def test_every_descriptor_has_numbers_for_every_image_and_an_operator_that_exists() -> None:
    images = torch.randint(0, 256, (5, 3, 19, 23), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for name, value in image_properties(images).items():
        assert value.shape[0] == 5 and value.ndim == 2 and bool(value.isfinite().all()), name
        assert DESCRIPTORS[name].operator in (*OPERATORS, ""), name
    grey = image_properties(images, grey=True)
    assert set(grey) == {name for name, one in DESCRIPTORS.items() if not one.colour}


# Of noise everything stands out from the border, whatever its size: those two have tests of their own.
MOVED = [one.name for one in DESCRIPTORS.values() if one.operator not in ("", "size", "aspect")]


@pytest.mark.parametrize("name", MOVED)
def test_an_operator_moves_the_numbers_of_its_property(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(64, 3, 36, 36, generator=generator), 5, 1)
    rough = torch.rand(64, 3, 32, 32, generator=generator)
    x, z = (0.2 + 0.5 * smooth), 0.1 + 0.8 * rough
    z[:, 1] *= 0.5

    def numbers(images: torch.Tensor) -> torch.Tensor:
        return DESCRIPTORS[name].measure(images).view(len(images), -1)

    moved = numbers(OPERATORS[DESCRIPTORS[name].operator].apply(x, z))
    before = (numbers(x) - numbers(z)).abs().mean()
    assert before > 0.01 and (moved - numbers(z)).abs().mean() < 0.7 * before


def test_noise_is_what_the_smoothest_blocks_have() -> None:
    measure = DESCRIPTORS["noise"].measure
    edges = torch.zeros(1, 1, 32, 32)
    edges[..., ::8, :], edges[..., 16:] = 0.7, 1.0
    assert float(measure(edges)) == pytest.approx(math.log(5e-4))  # smooth between the edges
    drawn = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    for level in (0.01, 0.05):
        found = float(measure(0.5 + level * drawn))
        # Weights (1, -2, 1) along both sides: 36 times the variance, and less in the quietest of blocks.
        assert 0.25 < math.exp(found) / (36 * level**2) < 0.8
    both = float(measure((edges * 0.5 + 0.25) + 0.05 * drawn))
    assert both == pytest.approx(float(measure(0.5 + 0.05 * drawn)), abs=0.7)  # edges add little


def test_sharpness_tells_blur_and_little_else() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(400, 1, 36, 36, generator=generator).expand(-1, 3, -1, -1).clone()
    target = torch.arange(400) % 2
    images[target == 1, :, 2:-2, 2:-2] = torch.nn.functional.avg_pool2d(images[target == 1], 5, 1)
    # both kinds have the same colours and contrast
    inner = images[:, :, 2:-2, 2:-2]
    inner = inner - inner.mean((2, 3), keepdim=True)
    inner = 0.5 + 0.1 * inner / inner.std((2, 3), keepdim=True)
    found = {
        one.name: one.beyond
        for one in predicted(image_properties((inner * 255).round().clamp(0, 255).to(torch.uint8)), target, 2, 1)
    }
    assert found["sharpness"] > ALONE and abs(found["mean colour"]) < 0.3 and abs(found["contrast"]) < 0.3
