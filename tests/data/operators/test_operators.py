"""Operators: what holds for each of them, and what each does to images made by hand."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from debias.data.operators import CONTROL, OPERATORS
from debias.data.operators.base import moved as moved_images
from debias.data.properties.descriptors import image_properties
from debias.data.properties.prediction import predicted

Way = Callable[[str, Tensor, Tensor], Tensor]
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 17, 23), (1, 5, 4), (3, 40, 9)]


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator)


def moved(name: str, x: Tensor, z: Tensor) -> Tensor:
    return OPERATORS[name].apply(x, z)


def moved_thoroughly(name: str, x: Tensor, z: Tensor) -> Tensor:
    return OPERATORS[name].taking_away(x, z)


WAYS = [(moved, name) for name in OPERATORS] + [
    (moved_thoroughly, name) for name, one in OPERATORS.items() if one.thorough is not None
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("way", "name"), WAYS)
def test_an_image_onto_itself_stays_what_it_is(way: Way, name: str, shape: tuple[int, ...]) -> None:
    x = images(4, shape)
    x[1] = 0
    x[2] = 1
    x[3, :, : shape[1] // 2] = 0.25
    assert torch.allclose(way(name, x, x), x, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("way", "name"), WAYS)
def test_shape_range_and_pairs_are_kept_apart(way: Way, name: str, shape: tuple[int, ...]) -> None:
    x, z = images(5, shape, 1), images(5, shape, 2)
    x[0], z[1] = 0, 0
    before = x.clone(), z.clone()
    given = way(name, x, z)
    assert given.shape == x.shape
    assert bool(torch.isfinite(given).all()) and float(given.min()) >= 0 and float(given.max()) <= 1
    assert torch.equal(x, before[0]) and torch.equal(z, before[1])
    alone = torch.cat([way(name, x[i : i + 1], z[i : i + 1]) for i in range(5)])
    assert torch.allclose(given, alone, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != CONTROL])
def test_every_operator_but_the_control_does_something(name: str) -> None:
    x, z = images(1, (3, 32, 32), 1), (images(1, (3, 32, 32), 2) ** 3)
    z = z[..., ::2].repeat_interleave(2, dim=3)
    z[..., :10, :] = 0.1
    assert float((moved(name, x, z) - x).abs().max()) > 0.05


def test_colours() -> None:
    x, z = images(2, (3, 8, 8), 1) * 0.5, images(2, (3, 8, 8), 2) * 0.5
    assert torch.equal(moved("nothing", x, z), x)
    assert torch.allclose(moved("mix", x, z), (x + z) / 2)
    assert torch.allclose(moved("brightness", x, z).mean((1, 2, 3)), z.mean((1, 2, 3)), atol=0.01)
    means = moved("channel_means", x, z)
    assert torch.allclose(means.mean((2, 3)), z.mean((2, 3)), atol=0.01)
    x, z = 0.4 + images(2, (3, 8, 8), 1) * 0.2, 0.3 + images(2, (3, 8, 8), 2) * 0.4
    stats = moved("channel_stats", x, z)
    assert torch.allclose(stats.mean((2, 3)), z.mean((2, 3)), atol=1e-3)
    assert torch.allclose(stats.std((2, 3)), z.std((2, 3)), atol=1e-2)
    stretched = moved("contrast", x, z)
    assert torch.allclose(stretched.mean((2, 3)), x.mean((2, 3)), atol=0.01)

    def spread(images: Tensor) -> Tensor:
        return (images - images.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt()

    assert torch.allclose(spread(stretched), spread(z), atol=0.01)


def test_histogram_gives_values_by_rank_and_keeps_equal_pixels_equal() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0, 0.2], [0.0, 0.0, 0.3, 0.9]])[None, None]
    z = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.6, 0.7]])[None, None]
    assert torch.allclose(moved("histogram", x, z), torch.tensor([[0, 0, 0, 0.5], [0, 0, 0.6, 0.7]])[None, None])


def test_a_plain_backdrop_is_painted_over_and_what_stands_before_it_stays() -> None:
    """Two colours that are far apart: the one of most pixels becomes the donor's, the other one stays."""
    blue, red, white = (torch.tensor(rgb).view(3, 1, 1) for rgb in ((0.1, 0.2, 0.8), (0.9, 0.1, 0.1), (1.0, 1.0, 1.0)))
    ink = torch.zeros(1, 8, 8, dtype=torch.bool)
    ink[:, 2:6, 3:5] = True
    x, z = torch.where(ink, white, blue)[None], torch.where(ink.transpose(1, 2), white, red)[None]
    assert torch.allclose(moved("backdrop", x, z)[0], torch.where(ink, white, red), atol=1e-4)
    # Black stays black behind digits of any colour, so there it moves nothing.
    x, z = torch.where(ink, blue, torch.zeros(3, 1, 1))[None], torch.where(ink, red, torch.zeros(3, 1, 1))[None]
    assert torch.equal(moved("backdrop", x, z), x)


def test_bands_of_the_spectrum_take_the_waves_of_the_donor() -> None:
    place = torch.arange(32) / 32

    def wave(cycles: int, strength: float) -> Tensor:
        return 0.5 + strength * torch.cos(2 * torch.pi * cycles * place).expand(1, 1, 32, 32)

    for name, cycles in (("amplitude_low", 2), ("amplitude_middle", 6), ("amplitude_high", 12)):
        given = moved(name, wave(cycles, 0.1), wave(cycles, 0.3))
        assert torch.allclose(given, wave(cycles, 0.3), atol=1e-5), name
        others = {"amplitude_low", "amplitude_middle", "amplitude_high"} - {name}
        for other in others:
            assert torch.allclose(moved(other, wave(cycles, 0.1), wave(cycles, 0.3)), wave(cycles, 0.1), atol=1e-5)
    assert torch.allclose(moved("amplitude_all", wave(6, 0.1), wave(6, 0.3)), wave(6, 0.3), atol=1e-5)


def roughness(x: Tensor) -> Tensor:
    return x.diff(dim=3).abs().mean((1, 2, 3))


def test_sharpness_detail_and_noise() -> None:
    sharp = images(1, (3, 32, 32), 1)
    soft = torch.nn.functional.avg_pool2d(images(1, (3, 34, 34), 2), 3, stride=1)
    assert float(roughness(moved("blur", sharp, soft))) < 0.6 * float(roughness(sharp))
    assert float(roughness(moved("blur", soft, sharp))) > 1.5 * float(roughness(soft))
    # the mean of every channel and with it the colour stays
    assert torch.allclose(moved("blur", sharp, soft).mean((2, 3)), sharp.mean((2, 3)), atol=0.02)
    edge = torch.zeros(1, 1, 32, 32)
    edge[..., 16:] = 1
    flat = torch.full_like(edge, 0.5)
    noisy = flat + 0.05 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    grainy = moved("noise", edge * 0.5 + 0.25, noisy)
    assert 0.02 < float(grainy[..., :14].std()) < 0.06
    assert float((grainy - edge * 0.5 - 0.25).abs().max()) < 0.2  # the edge is where it was
    assert float(moved("noise", noisy, flat).std()) < 0.6 * float(noisy.std())
    assert torch.allclose(moved("noise", edge, flat), edge)  # edges are not noise
    assert torch.allclose(moved("detail", flat, edge)[..., :8], flat[..., :8], atol=1e-3)
    assert float((moved("detail", flat, edge) - flat).abs().max()) > 0.2


def photographs(count: int, seed: int) -> Tensor:
    """Noise whose amplitude falls with the frequency, as that of photographs does, [N, 1, 32, 32]."""
    white = torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    down, across = torch.fft.fftfreq(32), torch.fft.rfftfreq(32)
    falling = 1 / torch.hypot(down[:, None], across[None]).clamp(min=1 / 32)
    shaped = torch.fft.irfft2(torch.fft.rfft2(white) * falling, s=(32, 32))
    return (0.5 + 0.15 * shaped / shaped.std((2, 3), keepdim=True)).clamp(0, 1)


@pytest.mark.parametrize("name", ["blur", "noise"])
def test_nothing_tells_what_an_image_was_once_it_is_moved_thoroughly(name: str) -> None:
    x = photographs(800, 1)
    target = torch.arange(800) % 2
    if name == "blur":
        kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        other = torch.nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    else:
        other = (x + 0.06 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    images = (torch.where(target[:, None, None, None] == 1, other, x) * 255).round().to(torch.uint8)
    donors = torch.randperm(800, generator=torch.Generator().manual_seed(3))

    def most_told(given: Tensor) -> float:
        return max(one.beyond for one in predicted(image_properties(given), target, 2, seed=1))

    assert most_told(images) > 0.9
    measured = most_told(moved_images(OPERATORS[name].apply, images, donors))
    taken_away = most_told(moved_images(OPERATORS[name].taking_away, images, donors))
    assert taken_away < 0.6 * measured


def compressed(x: Tensor, quality: int) -> Tensor:
    held = io.BytesIO()
    Image.fromarray((255 * x[0]).byte().permute(1, 2, 0).numpy()).save(held, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(held))).permute(2, 0, 1)[None].float() / 255


def test_compression_moves_with_the_quality_of_the_file() -> None:
    smooth = torch.nn.functional.interpolate(images(2, (3, 16, 16), 3), size=(64, 64), mode="bicubic").clamp(0, 1)
    x, z = smooth[:1], smooth[1:]

    def inside(image: Tensor) -> float:
        """Changes within the blocks of 8, which poor files have few of."""
        return float(image.diff(dim=3).abs().mean((0, 1, 2))[torch.arange(1, 64) % 8 != 0].mean())

    assert inside(compressed(x, 5)) < 0.8 * inside(x)
    assert inside(moved("compression", x, compressed(z, 5))) < 0.85 * inside(x)
    assert inside(moved("compression", compressed(x, 5), z)) > 1.2 * inside(compressed(x, 5))


def test_places() -> None:
    x, z = torch.zeros(1, 1, 30, 30), torch.ones(1, 1, 30, 30)
    border = moved("border", x, z)
    assert float(border[..., 3:27, 3:27].sum()) == 0 and float(border.sum()) == 30 * 30 - 24 * 24
    around = moved("background", x, z)
    assert float(around[..., 15, 15]) == 0 and float(around[..., 0, 0]) == 1
    cells = [moved(f"patch_{row}_{column}", x, z) for row in range(3) for column in range(3)]
    assert torch.equal(sum(cells), z)  # every pixel is in one cell
    assert float(moved("patch_2_2", x, z)[..., 20:, 20:].mean()) == 1
    assert OPERATORS["patch_2_2"].where == "the lower right corner"
    assert OPERATORS["patch_0_1"].where == "the upper edge"


def test_size_and_aspect() -> None:
    def box(height: int, width: int) -> Tensor:
        image = torch.zeros(1, 1, 64, 64)
        image[..., 32 - height // 2 : 32 + height // 2, 32 - width // 2 : 32 + width // 2] = 1
        return image

    def sides(image: Tensor) -> tuple[int, int]:
        seen = image[0, 0] > 0.5
        return int(seen.any(1).sum()), int(seen.any(0).sum())

    assert all(abs(side - 32) <= 2 for side in sides(moved("size", box(20, 20), box(32, 32))))
    height, width = sides(moved("aspect", box(24, 24), box(16, 36)))
    assert abs(height - 16) <= 2 and abs(width - 36) <= 2


def test_names_and_words() -> None:
    for name, operator in OPERATORS.items():
        assert operator.name == name and name.isidentifier()
        assert operator.summary and operator.where


@pytest.mark.parametrize("size", [(9, 9), (20, 31)])
def test_the_place_of_an_operator_is_what_it_changes(size):
    x, z = torch.zeros(2, 3, *size), torch.ones(2, 3, *size)
    placed = [one for one in OPERATORS.values() if one.area is not None]
    assert {one.name for one in placed} == {
        "border", "background", *(f"patch_{row}_{column}" for row in range(3) for column in range(3))
    }  # fmt: skip
    for one in placed:
        changed = (one.apply(x, z) != x).all(1)
        assert torch.equal(changed, one.area(x).expand(2, -1, -1)), one.name
