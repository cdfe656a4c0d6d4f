import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop

from debias.data.augment import AUGMENTATIONS, VIEWS, _resample, blocks, crop_flip, flip, resized_crop_flip

# Of views of features one is drawn: those have tests in tests/features.
OF_IMAGES = [name for name in AUGMENTATIONS if name != VIEWS]


def slow_crop_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One image at a time, with the draws that `crop_flip` documents."""
    batch, _, height, width = images.shape
    offset = torch.randint(0, 9, (2, batch), generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    out = []
    for image, top, left, mirror in zip(images, offset[0].tolist(), offset[1].tolist(), mirrored.tolist(), strict=True):
        crop = F.pad(image, (4, 4, 4, 4))[:, top : top + height, left : left + width]
        out.append(crop.flip(2) if mirror else crop)
    return torch.stack(out)


def test_crop_flip_equals_one_image_at_a_time():
    images = torch.rand(40, 3, 6, 9)
    fast = crop_flip(images, torch.Generator().manual_seed(5))
    assert torch.equal(fast, slow_crop_flip(images, torch.Generator().manual_seed(5)))


def test_crop_flip_reaches_every_place_and_both_orientations():
    # One bright pixel in the middle: where it lands tells offset and orientation.
    images = torch.zeros(4000, 1, 9, 9)
    images[:, 0, 4, 4] = 1
    places = crop_flip(images, torch.Generator().manual_seed(0)).sum(0)[0]
    assert places.sum() == 4000
    assert (places > 15).all()

    edge = torch.zeros(1000, 1, 1, 9)
    edge[..., 0] = 1
    columns = crop_flip(edge, torch.Generator().manual_seed(0)).sum((0, 1, 2))
    assert columns[0] > 0
    assert columns[8] > 0


def test_crop_flip_leaves_its_input_alone():
    images = torch.rand(4, 3, 8, 8)
    before = images.clone()
    crop_flip(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


def gradient(n: int, size: int = 32) -> torch.Tensor:
    """Images whose first channel is the column and whose second is the row, four steps a pixel, centred on 0."""
    ramp = (torch.arange(size) * 4).to(torch.uint8)
    return torch.stack(
        [ramp.expand(size, size), ramp.view(-1, 1).expand(size, size), 255 - ramp.expand(size, size)]
    ).expand(n, -1, -1, -1)


def crops(n: int, aspect: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Left, top, width and height of the crops in pixels, read off gradients, and whether each is mirrored."""
    out = resized_crop_flip(gradient(n), torch.Generator().manual_seed(seed), aspect).float() / 4
    # Away from the edges, where places are clamped: 20 pixels of the result between columns 6 and 26.
    step_x, step_y = (out[:, 0, 16, 26] - out[:, 0, 16, 6]) / 20, (out[:, 1, 26, 16] - out[:, 1, 6, 16]) / 20
    mirrored = step_x < 0
    centre_x, centre_y = out[:, 0, 16, 15:17].mean(1) + 0.5, out[:, 1, 15:17, 16].mean(1) + 0.5
    wide, tall = step_x.abs() * 32, step_y * 32
    return centre_x - wide / 2, centre_y - tall / 2, wide, tall, mirrored


def test_resized_crops_are_drawn_as_promised():
    left, top, wide, tall, mirrored = crops(3000)
    area, ratio = wide * tall / 32**2, wide / tall
    slack = 0.06
    assert 0.7 - slack < area.min() < 0.74 and area.max() <= 1 + slack
    assert 3 / 4 - slack < ratio.min() < 0.85 and 1.18 < ratio.max() < 4 / 3 + slack
    assert (left > -0.6).all() and (top > -0.6).all()
    assert (left + wide < 32.6).all() and (top + tall < 32.6).all()
    assert 0.45 < mirrored.float().mean() < 0.55
    # Ratios are drawn on a logarithmic scale: as many upright crops as lying ones.
    assert 0.45 < (ratio > 1).float().mean() < 0.55


def test_crops_of_stretched_images_are_drawn_as_torchvision_draws_them_in_the_original():
    _, _, wide, tall, _ = crops(3000, aspect=178 / 218)
    ours = torch.stack([wide / 32 * 178, tall / 32 * 218])
    original = torch.empty(1, 218, 178)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(original, [0.7, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(3000)]
    theirs = torch.tensor(drawn).float().flip(1).T
    for share in (0.1, 0.5, 0.9):
        assert (ours.quantile(share, 1) - theirs.quantile(share, 1)).abs().max() < 5, share
    for figure in (ours.log().diff(dim=0), theirs.log().diff(dim=0)):
        assert abs(float(figure.mean()) - 0.14) < 0.02


def test_resized_crops_are_bilinear():
    """Against torch's own sampler at the same places."""
    images = torch.randint(0, 256, (5, 3, 17, 23), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = torch.rand(5, 17, generator=torch.Generator().manual_seed(2)) * 16
    columns = torch.rand(5, 23, generator=torch.Generator().manual_seed(3)) * 22
    ours = _resample(_resample(images, rows).transpose(2, 3).contiguous(), columns).transpose(2, 3)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None] / 11 - 1, rows[:, :, None] / 8 - 1), dim=-1)
    expected = F.grid_sample(images.float(), grid, align_corners=True)
    # Two roundings, and places in steps of 1/128.
    assert (ours.float() - expected).abs().max() < 3
    assert (ours.float() - expected).abs().mean() < 0.6


def test_resampling_at_whole_places_copies():
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(_resample(images, torch.arange(16.0).expand(4, -1)), images)


def test_the_whole_image_where_no_crop_fits():
    """A crop as wide as high never fits into what was a hundred times as high as wide."""
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    out = resized_crop_flip(images, torch.Generator().manual_seed(0), aspect=0.01)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (out == images).flatten(1).all(1)).all()
    assert 5 < int(mirrored.sum()) < 35


def test_flip_mirrors_half_of_the_images():
    images = torch.randint(0, 256, (400, 3, 4, 6), dtype=torch.uint8)
    out = flip(images, torch.Generator().manual_seed(0))
    drawn = torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(out[drawn], images[drawn].flip(3)) and torch.equal(out[~drawn], images[~drawn])
    assert 150 < int(drawn.sum()) < 250


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_augmentation(name):
    """uint8 in and out, its input left alone, the same bits from the same generator."""
    images = torch.randint(0, 256, (20, 3, 12, 10), dtype=torch.uint8)
    before = images.clone()
    one = AUGMENTATIONS[name](images, torch.Generator().manual_seed(7))
    assert one.dtype == torch.uint8 and one.shape == images.shape
    assert torch.equal(images, before) and not torch.equal(one, images)
    assert torch.equal(AUGMENTATIONS[name](images, torch.Generator().manual_seed(7)), one)
    assert not torch.equal(AUGMENTATIONS[name](images, torch.Generator().manual_seed(8)), one)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_same_bits_whatever_is_worked_on_at_once(name):
    """Three channels take several blocks, one takes one; draws do not depend on channels."""
    images = torch.randint(0, 256, (20, 3, 150, 160), dtype=torch.uint8)
    assert len(list(blocks(images))) > 1 == len(list(blocks(images[:, :1])))
    whole = AUGMENTATIONS[name](images, torch.Generator().manual_seed(7))
    parts = [AUGMENTATIONS[name](images[:, [c]], torch.Generator().manual_seed(7)) for c in range(3)]
    assert torch.equal(whole, torch.cat(parts, dim=1))
