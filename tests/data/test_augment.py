import torch
import torch.nn.functional as F

from data.augment import crop_flip


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
