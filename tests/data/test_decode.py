"""Image files to arrays: framing, orientation, 16 bits, and files that cannot be used."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from data.decode import BrokenImage, Preparation, decode, fill
from data.files import open_files
from tests.photos import picture


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width=40, height=20):
    """Left half red, right half green, the top row blue."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 1] = 255
    pixels[0] = (0, 0, 255)
    return Image.fromarray(pixels)


def test_an_image_of_the_right_size_is_not_touched():
    image = picture(1, 2, 3)
    for framing in ("crop", "stretch", "pad"):
        np.testing.assert_array_equal(np.asarray(decode(encoded(image), Preparation(40, framing))), np.asarray(image))


def test_framings():
    image = halves()
    middle = np.asarray(decode(encoded(image), Preparation(20, "crop")))
    np.testing.assert_array_equal(middle, np.asarray(image)[:, 10:30])
    padded = np.asarray(decode(encoded(image), Preparation(40, "pad")))
    np.testing.assert_array_equal(padded[10:30], np.asarray(image))
    assert not padded[:10].any() and not padded[30:].any()
    stretched = np.asarray(decode(encoded(image), Preparation(20, "stretch")))
    assert stretched[5, 0].tolist() == [255, 0, 0] and stretched[5, -1].tolist() == [0, 255, 0]


def test_a_margin_is_resize_then_centre_crop():
    """256/224 of the size and the middle of it: torchvision's usual preparation of test images."""
    image = picture(0, 1, 7, (89, 109))
    ours = np.asarray(decode(encoded(image), Preparation(56, "crop", 64 / 56))).astype(int)
    usual = v2.Compose([v2.Resize(64), v2.CenterCrop(56)])(image)
    # The sides differ by less than a pixel, as one resamples in one go.
    assert np.abs(ours - np.asarray(usual).astype(int)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("framing", ["crop", "stretch", "pad"])
def test_photographs_are_turned_upright(orientation, framing):
    """What Pillow makes of the same tag."""
    from PIL import ImageOps

    image = halves(48, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        upright = ImageOps.exif_transpose(opened)
    expected = decode(encoded(upright), Preparation(16, framing))
    np.testing.assert_allclose(
        np.asarray(decode(content, Preparation(16, framing))).astype(int), np.asarray(expected).astype(int), atol=1
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = decode(encoded(picture(1, 1, 1).convert(mode), kind), Preparation(16))
    assert image.mode == "RGB" and image.size == (16, 16)


def test_sixteen_bits_are_scaled_not_cut():
    grey = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    read = np.asarray(decode(encoded(Image.fromarray(grey)), Preparation(20)))[..., 0]
    np.testing.assert_allclose(read.astype(int), grey >> 8, atol=1)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    image = picture(0, 0, 5, (1200, 900))
    ours = np.asarray(decode(encoded(image, "JPEG", quality=95), Preparation(64))).astype(int)
    full = image.crop((150, 0, 1050, 900)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(full).astype(int)).mean() < 3


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image of a kind"),
        (cut(encoded(picture(0, 0, 0), "JPEG", quality=98)), "(?i)truncated"),
        (cut(encoded(picture(0, 0, 0), "PNG")), ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image of a kind"),
    ],
)
def test_what_cannot_be_used_says_why(content, why):
    with pytest.raises(BrokenImage, match=why) as caught:
        decode(content, Preparation(16))
    assert str(caught.value)


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr("data.decode.MAX_PIXELS", 1000)
    with pytest.raises(BrokenImage, match="40 x 40 pixels"):
        decode(encoded(picture(0, 0, 0)), Preparation(16))


@pytest.mark.parametrize("workers", [1, 3])
def test_fill_puts_every_image_in_its_row_and_names_faults(tmp_path, workers):
    for number in range(50):
        picture(number % 4, number % 3, number).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "07.png").write_bytes(b"")
    (tmp_path / "49.png").write_bytes(cut((tmp_path / "49.png").read_bytes()))
    files = open_files(tmp_path)
    out, seen = np.zeros((50, 3, 40, 40), dtype=np.uint8), []
    decoded = fill(files, files.names, Preparation(40), out, workers, seen.append)
    assert sorted(decoded.faults) == [7, 49] and decoded.faults[7] == "empty file"
    assert sum(seen) == 50
    for number in set(range(50)) - {7, 49}:
        expected = np.asarray(picture(number % 4, number % 3, number)).transpose(2, 0, 1)
        np.testing.assert_array_equal(out[number], expected)
    # 0 and 48 differ; contents name files, pixels rows.
    assert len({row.tobytes() for row in decoded.contents}) == 50
    assert len({row.tobytes() for row in decoded.pixels}) == 49
    assert not out[7].any()
    assert torch.from_numpy(out).shape == (50, 3, 40, 40)
