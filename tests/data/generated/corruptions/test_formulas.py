"""Corruptions against their formulas, and against other programs where these do the same."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from debias.data.generated.corruptions import CORRUPTIONS, blur, digital, filters, noise, spatter, weather
from debias.data.generated.corruptions import jpeg as jpeg_module
from debias.data.generated.corruptions.pixels import to_bytes
from tests.data.generated.corruptions.test_every_corruption import photographs, seeded

LEVELS = range(1, 6)


def grey(value: int, n: int = 40) -> Tensor:
    return torch.full((n, 3, 32, 32), value, dtype=torch.uint8)


def floats(images: Tensor) -> np.ndarray:
    return images.numpy().astype(np.float64) / 255


def test_levels_are_cut_off_and_whole_levels_stay():
    levels = torch.arange(256)
    assert torch.equal(to_bytes(levels.float() / 255), levels.to(torch.uint8))
    assert to_bytes(torch.tensor([-0.1, 0.99 / 255, 1.5 / 255, 1.2])).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("level", LEVELS)
def test_noise_has_its_spread(level):
    # Of 128 = .50196; far from both ends, so nothing is cut off but to whole levels (spread 1/sqrt(12) of one).
    for name, sigma in (
        ("gaussian noise", noise.GAUSSIAN[level - 1]),
        ("speckle noise", noise.SPECKLE[level - 1] * 128 / 255),
        ("shot noise", (128 / 255 / noise.SHOT[level - 1]) ** 0.5),
    ):
        found = floats(CORRUPTIONS[name](grey(128), level, seeded()))
        assert found.std() == pytest.approx(sigma, rel=0.02)
        assert found.mean() == pytest.approx((128 - 0.5) / 255, abs=0.002)


@pytest.mark.parametrize("level", LEVELS)
def test_salt_and_pepper_come_in_equal_shares(level):
    found = CORRUPTIONS["impulse noise"](grey(100), level, seeded())
    half = noise.IMPULSE[level - 1] / 2
    for value, share in ((0, half), (255, half), (100, 1 - 2 * half)):
        assert (found == value).float().mean().item() == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("level", LEVELS)
def test_gaussian_blur(level):
    images = photographs()
    sigma = blur.GAUSSIAN[level - 1]
    wanted = ndimage.gaussian_filter(floats(images), (0, 0, sigma, sigma), mode="nearest", truncate=4)
    found = CORRUPTIONS["gaussian blur"](images, level, seeded())
    assert np.abs(found.numpy() - np.floor(wanted * 255 + 1e-6)).max() <= 1
    assert (found.numpy() == np.floor(wanted * 255 + 1e-6)).mean() > 0.97


@pytest.mark.parametrize("border", ["nearest", "reflect"])
def test_gaussian_matrix_at_the_border(border):
    wanted = ndimage.gaussian_filter1d(np.eye(9), 2.2, axis=0, mode=border, truncate=3)
    np.testing.assert_allclose(filters.gaussian_matrix(9, 2.2, 3.0, border), wanted, atol=1e-6)


def test_a_disk_of_radius_one_is_a_cross():
    disk = blur.disk(1, 0.2)
    cross = torch.zeros(5, 5)
    cross[2, 1:4] = cross[1:4, 2] = 0.2
    torch.testing.assert_close(disk, cross, atol=2e-5, rtol=0)
    for radius, soft in blur.DEFOCUS:
        assert blur.disk(radius, soft).sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_defocus_blur(level):
    images = photographs(4)
    kernel = blur.disk(*blur.DEFOCUS[level - 1]).numpy().astype(np.float64)
    wanted = ndimage.correlate(floats(images), kernel[None, None], mode="mirror")
    found = CORRUPTIONS["defocus blur"](images, level, seeded()).numpy()
    assert np.abs(found - np.floor(wanted * 255 + 1e-3)).max() <= 1


def test_glass_shows_the_pixel_or_a_neighbour_to_the_left_or_above():
    # Every pixel has a colour of its own; level 1 does not smooth, one round.
    place = torch.arange(1024).view(32, 32)
    image = torch.stack([place // 32 * 4, place % 32 * 4, torch.zeros_like(place)]).to(torch.uint8)[None]
    found = CORRUPTIONS["glass blur"](image, 1, seeded())[0].int() // 4
    down, right = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    moved = torch.stack([down - found[0], right - found[1]])
    assert moved.min() == 0 and moved.max() == 1
    assert (moved[:, :2] == 0).all() and (moved[:, :, :2] == 0).all()
    assert moved[:, 2:, 2:].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_streak_goes_along_its_direction():
    dot = torch.zeros(3, 1, 9, 9)
    dot[:, :, 4, 4] = 1
    kernel = torch.tensor([0.5, 0.3, 0.2])
    right, down, rising = filters.motion(dot, kernel, torch.tensor([0.0, 90.0, -45.0]))[:, 0]
    # The weight of step i lies where i steps along the direction lead to the dot.
    torch.testing.assert_close(right[4], torch.tensor([0, 0, 0.2, 0.3, 0.5, 0, 0, 0, 0]))
    torch.testing.assert_close(down[:, 4], torch.tensor([0, 0, 0.2, 0.3, 0.5, 0, 0, 0, 0]))
    # Two steps are sqrt(2) pixels each way: nearer to one than to two.
    torch.testing.assert_close(rising[[4, 5], [4, 3]], torch.tensor([0.5, 0.5]))
    for image in (right, down, rising):
        assert image.sum().item() == pytest.approx(1)


def test_a_streak_repeats_the_edge():
    columns = torch.arange(6.0).expand(1, 1, 6, 6)
    found = filters.motion(columns, torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.0]))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.75, 1.75, 2.75, 3.75, 4.5, 5.0]))


def test_streak_weights_are_half_a_gaussian():
    kernel = filters.streak_kernel(1, 2.0)
    raw = torch.exp(torch.tensor([0, -1 / 8, -4 / 8]))
    torch.testing.assert_close(kernel, raw / raw.sum())


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.25, 1.75, 2.25])
def test_zoom(factor):
    image = np.random.default_rng(0).random((32, 32))
    inner = int(np.ceil(32 / factor))
    first = (32 - inner) // 2
    # Just above, as 1.25 is there: 26 * 1.25 = 32.5 is rounded upwards.
    zoomed = ndimage.zoom(image[first : first + inner, first : first + inner], factor + 1e-9, order=1)
    trim = (len(zoomed) - 32) // 2
    found = filters.along_both(torch.from_numpy(image).float(), filters.zoom_matrix(32, factor))
    np.testing.assert_allclose(found, zoomed[trim : trim + 32, trim : trim + 32], atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_zoom_blur(level):
    images = photographs(2)
    wanted = images.double() / 255
    for step in range(blur.ZOOM[level - 1]):
        matrix = filters.zoom_matrix(32, 1 + step / 100).double()
        wanted = wanted + matrix @ (images.double() / 255) @ matrix.t()
    wanted = (wanted / (blur.ZOOM[level - 1] + 1) * 255).floor()
    assert (CORRUPTIONS["zoom blur"](images, level, seeded()) - wanted).abs().max() <= 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_changes_in_hsv(name, level):
    rng = np.random.default_rng(level)
    pixels = rng.integers(0, 256, (1024, 3), dtype=np.uint8)
    pixels[:4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 7]]
    images = torch.from_numpy(pixels.T.reshape(1, 3, 32, 32).copy())
    found = CORRUPTIONS[name](images, level, seeded()).numpy().reshape(3, -1).T
    for pixel, after in zip(pixels, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        if name == "brightness":
            value = min(1, value + (0.05, 0.1, 0.15, 0.2, 0.3)[level - 1])
        else:
            factor, added = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[level - 1]
            saturation = min(1, saturation * factor + added)
        wanted = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
        # Cut off, not rounded.
        assert (after <= wanted + 2e-3).all() and (after >= wanted - 1.001).all(), pixel


def test_contrast_by_hand():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, :16] = 200  # mean 100
    images[:, 1] = 40
    found = CORRUPTIONS["contrast"](images, 2, seeded())
    assert found[0, 0, 0, 0] == 150 and found[0, 0, 31, 0] == 50
    assert (found[0, 1] == 40).all() and (found[0, 2] == 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_pixelate_is_pillows_box(level):
    images = photographs()
    side = int(32 * digital.PIXELATE[level - 1])
    wanted = [
        np.asarray(
            Image.fromarray(image).resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        )
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    found = CORRUPTIONS["pixelate"](images, level, seeded()).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found, np.stack(wanted))


@pytest.mark.parametrize("quality", [*jpeg_module.QUALITY, 95, 10])
def test_jpeg_is_pillows(quality):
    images = photographs()
    wanted = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        wanted.append(np.asarray(Image.open(file)))
    found = jpeg_module.compress(images, quality).permute(0, 2, 3, 1).numpy()
    difference = np.abs(found.astype(int) - np.stack(wanted))
    # A wave right between two steps goes the other way now and then.
    assert (difference == 0).mean() > 0.9
    assert (difference <= 3).mean() > 0.98


def test_elastic_moves_a_ramp_as_its_map_says():
    """Level 1 is affine, and an affine map of a ramp is a ramp away from the border."""
    ramp = (torch.arange(32) * 4).expand(6, 3, 32, 32).to(torch.uint8)
    found = CORRUPTIONS["elastic"](ramp, 1, seeded()).float()[:, :, 10:22, 10:22]
    for axis in (2, 3):
        # Cut-off levels: second differences of at most 1 either way.
        assert found.diff(n=2, dim=axis).abs().max() <= 2
    assert (found - ramp[:, :, 10:22, 10:22]).abs().max() > 2


def test_elastic_leaves_flat_images_alone():
    for level in LEVELS:
        assert (CORRUPTIONS["elastic"](grey(77, 2), level, seeded()) == 77).all()


@pytest.mark.parametrize("level", LEVELS)
def test_elastic_displaces_by_its_smoothed_noise(level):
    """On a ramp along rows the levels themselves say how far a pixel was moved."""
    alpha, sigma, _ = digital.ELASTIC[level - 1]
    if alpha == 0:
        return
    flat = filters.gaussian_matrix(32, sigma, 3.0, "reflect")[16]
    spread = alpha * flat.square().sum().item() / 3**0.5
    ramp = (torch.arange(32) * 4).expand(64, 3, 32, 32).to(torch.uint8)
    found = CORRUPTIONS["elastic"](ramp, level, seeded()).float()[:, 0, 12:20, 12:20]
    # What an affine map leaves: the residue of a plane fitted to each image.
    axis = torch.arange(8.0)
    plane = torch.stack([torch.ones(8, 8), axis.expand(8, 8), axis[:, None].expand(8, 8)], 2).view(64, 3)
    pixels = found.reshape(64, 64).t()
    residue = pixels - plane @ torch.linalg.lstsq(plane, pixels).solution
    # The fit takes part of a smooth displacement with it.
    assert 0.1 * spread < residue.std().item() / 4 < 1.3 * spread + 0.1


def test_fog_by_its_formula():
    images = grey(100, 5)
    haze = weather.plasma(5, 32, 2.5, seeded())
    found = CORRUPTIONS["fog"](images, 3, seeded()).float()
    x = 100 / 255
    wanted = ((x + 0.75 * haze) * x / (x + 0.75)).clamp(0, 1)[:, None] * 255
    assert ((wanted - found) >= -0.01).all() and ((wanted - found) <= 1.01).all()


def test_plasma_is_rough_as_its_decay_says():
    rough, smooth = (weather.plasma(40, 32, decay, seeded()) for decay in (1.75, 3.0))
    for clouds in (rough, smooth):
        assert (clouds.amin((1, 2)) == 0).all() and (clouds.amax((1, 2)) == 1).all()
    gradients = [clouds.diff(dim=2).abs().mean() for clouds in (rough, smooth)]
    assert 1.3 * gradients[1] < gradients[0] < 1.6 * gradients[1]


def test_frost_by_its_formula():
    images = grey(100, 5)
    panes = [torch.full((3, 40, 50), 200, dtype=torch.uint8)]
    for (own, other), level in zip(weather.FROST, LEVELS, strict=True):
        found = weather.frost(images, level, seeded(), panes)
        assert (found == int(min(own * 100 + other * 200 + 1e-3, 255))).all()


def test_frost_takes_pieces_from_all_of_every_pane():
    numbers = torch.arange(40 * 50).view(40, 50)
    panes = [torch.stack([numbers // 50, numbers % 50, torch.full_like(numbers, k)]).to(torch.uint8) for k in range(2)]
    pieces = weather.frost(grey(0, 400), 3, seeded(), [pane * 5 for pane in panes]).float() / 2
    corner = pieces[:, :, 0, 0]
    assert set(corner[:, 2].tolist()) == {0, 1}
    # 40 - 32 rows and 50 - 32 columns of room.
    assert set(corner[:, 0].tolist()) == set(range(8)) and set(corner[:, 1].tolist()) == set(range(18))


def test_snow_whitens_and_adds_flakes():
    images = grey(100, 30)
    found = CORRUPTIONS["snow"](images, 1, seeded()).float()
    # Without a flake: .95 x + .05 max(x, 1.5 x + .5), of x = 100 / 255.
    x = 100 / 255
    without = int(255 * (0.95 * x + 0.05 * (1.5 * x + 0.5)) + 1e-3)
    assert found.min() == without and (found == without).float().mean() > 0.5
    assert found.max() > without + 40
    # Streaks are grey, and the layer is its own half turn.
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found, found.flip(2, 3))


def test_mud_is_brown_and_water_turquoise():
    black, white = grey(0, 30), grey(255, 30)
    mud = CORRUPTIONS["spatter"](white, 5, seeded()).float()
    darkest = mud.flatten(2).amin(2).amin(0)
    torch.testing.assert_close(darkest, torch.tensor([63.0, 42.0, 20.0]), atol=1.1, rtol=0)
    water = CORRUPTIONS["spatter"](black, 1, seeded()).float()
    brightest = water.flatten(2).amax(2)
    # Intensity .5 at the deepest point of each image that has a drop.
    torch.testing.assert_close(brightest[0], torch.tensor([87.0, 119.0, 119.0]), atol=1.1, rtol=0)
    assert (water == 0).float().mean() > 0.7


def test_edges_of_a_square():
    image = torch.zeros(1, 1, 12, 12)
    image[..., 4:9, 4:9] = 200
    found = spatter.edges(image)[0, 0]
    # One line around it, closed but for corners, and nothing inside or away from it.
    assert not found[6, 6] and not found[:3].any() and not found[10:].any()
    assert found[3:5, 6].sum() == 1 and found[8:10, 6].sum() == 1
    assert found[6, 3:5].sum() == 1 and found[6, 8:10].sum() == 1
    assert 12 <= found.sum() <= 20


def test_weak_edges_count_only_where_a_strong_one_is_near():
    image = torch.zeros(2, 1, 16, 16)
    image[0, :, :, 8:] = 20  # gradient 4 * 20: above 50, below 150
    image[1, :, :, 8:] = 20
    image[1, :, 12:, 8:] = 60
    found = spatter.edges(image)
    assert not found[0].any()
    assert found[1, 0, 2].any()


def test_distance_to_edges():
    edge = torch.rand(20, 1, 32, 32, generator=seeded()) < 0.02
    edge[0] = False
    found = spatter.edge_distance(edge)
    for k in range(1, 20):
        np.testing.assert_allclose(found[k, 0], ndimage.distance_transform_edt(~edge[k, 0].numpy()), atol=1e-4)
    assert (found[0] > 1000).all()


def test_equalised_by_hand():
    image = torch.tensor([[3.0, 3, 5, 5], [5, 9, 9, 9], [9, 9, 9, 9], [20, 20, 20, 20]])[None, None]
    # Counts 2, 3, 7, 4 of 16: (2 - 2), (5 - 2), (12 - 2), (16 - 2) of 14, times 255.
    found = spatter.equalised(image)
    assert {int(a): int(b) for a, b in zip(image.flatten(), found.flatten(), strict=True)} == {
        3: 0, 5: 55, 9: 182, 20: 255,
    }  # fmt: skip
    assert (spatter.equalised(torch.full((1, 1, 4, 4), 20.0)) == 20).all()
