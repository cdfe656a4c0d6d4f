"""Image files to arrays: framing, orientation, 16 bits, and files that cannot be used."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from debias.data.photos.archives import open_files
from debias.data.photos.decode import BrokenImage, decode, fill
from debias.data.preparation import Preparation
from tests.photos import picture


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb_png(highest):
    """A PNG of three channels of 16 bits up to `highest`, by hand: Pillow writes none."""
    values = np.round(np.linspace(0, highest, 20 * 20 * 3)).astype(">u2").reshape(20, 60)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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


GREY = np.linspace(0, 1, 400).reshape(20, 20)


def deep(values, kind, highest=None):
    """A file of `values` as they are; `highest`: what a TIFF says is white, in its tag MaxSampleValue."""
    return encoded(Image.fromarray(values), kind, **({} if highest is None else {"tiffinfo": {281: highest}}))


def twelve_bits():
    """A TIFF of 12 bits a sample, by hand: Pillow writes none. 20 x 20 pixels, two to three bytes."""
    values = np.round(GREY * 4095).astype(np.uint16).ravel()
    a, b = values[::2], values[1::2]
    data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8).tobytes()
    tags = [(256, 20), (257, 20), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 20), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        deep(np.round(GREY * 65535).astype(np.uint16), "PNG"),
        deep(np.round(GREY * 65535).astype(np.uint16), "TIFF"),
        deep(np.round(GREY * 65535).astype(np.int32), "PPM"),
        deep(GREY.astype(np.float32), "TIFF"),
        deep(np.round(GREY * 255).astype(np.int32), "TIFF", highest=255),
        deep(np.round(GREY * 4095).astype(np.uint16), "TIFF", highest=4095),
        twelve_bits(),
    ],
    ids=["png16", "tiff16", "pgm16", "float", "int32 that says 255", "tiff16 that says 4095", "tiff12"],
)
def test_depths_are_scaled_by_what_the_file_says(content):
    read = np.asarray(decode(content, Preparation(20)))
    np.testing.assert_allclose(read, np.repeat(np.round(GREY * 255)[..., None], 3, axis=2), atol=1)


WIDE = "black at 16 bits a channel"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (deep((GREY * 255).astype(np.float32), "TIFF"), "values from 0 to 255, outside the range 0 to 1"),
        (deep((GREY - 1).astype(np.float32), "TIFF"), "values from -1 to 0, outside"),
        (deep(np.full((20, 20), np.nan, np.float32), "TIFF"), "not finite"),
        (deep((GREY * 255).astype(np.int32), "TIFF"), "whole numbers of 32 bits .0 to 255. and nothing says"),
        (deep((GREY * 4095).astype(np.uint16), "PNG"), "only the lowest are used .up to 4095."),
        (deep((GREY * 255).astype(np.uint16), "PNG"), "only the lowest are used .up to 255."),
        (deep((GREY * 255).astype(np.uint16), "TIFF"), "only the lowest are used"),
        (rgb_png(4095), WIDE),
        (rgb_png(255), WIDE),
    ],
)
def test_depths_of_an_unknown_range_are_refused_and_not_black(content, why):
    with pytest.raises(BrokenImage, match=why):
        decode(content, Preparation(20))


def test_colours_of_sixteen_bits_over_the_whole_range_are_read():
    assert np.asarray(decode(rgb_png(65535), Preparation(20))).max() == 255


def test_a_black_image_of_sixteen_bits_is_black():
    assert not np.asarray(decode(deep(np.zeros((20, 20), np.uint16), "PNG"), Preparation(20))).any()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "webp", "gif", "key"])
def test_transparency_is_laid_on_white(mode):
    """A black drawing on nothing: black on white, half of it grey where it is half there."""
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[5:15, 5:15, 3] = 255
    image = Image.fromarray(pixels)
    if mode in ("P", "gif"):
        indexed = Image.fromarray((pixels[..., 3] == 0).astype(np.uint8), "P")
        indexed.putpalette([0, 0, 0, 10, 10, 10])
        content = encoded(indexed, "GIF" if mode == "gif" else "PNG", transparency=1)
    elif mode == "webp":
        content = encoded(image, "WEBP", lossless=True)
    elif mode == "key":
        content = encoded(Image.fromarray(np.where(pixels[..., 3], 0, 7).astype(np.uint8)), "PNG", transparency=7)
    else:
        content = encoded(image.convert(mode))
    read = np.asarray(decode(content, Preparation(20)))
    assert not read[5:15, 5:15].any() and (read[:5] == 255).all() and (read[:, :5] == 255).all()
    pixels[5:15, 5:15, 3] = 128
    if mode in ("RGBA", "LA", "webp"):
        half = encoded(Image.fromarray(pixels).convert("RGBA" if mode == "webp" else mode))
        assert abs(int(np.asarray(decode(half, Preparation(20)))[10, 10, 0]) - 127) <= 1


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


def test_too_many_pixels():
    """By what the head of the file says."""
    content = bytearray(encoded(picture(0, 0, 0), "PNG"))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(BrokenImage, match="20000 x 20000 pixels, more than 300 million"):
        decode(bytes(content), Preparation(16))


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
