"""From image files to uint8 arrays at the training resolution, on all cores."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from debias.data.photos.archives import Files, Read
from debias.data.photos.depths import as_rgb, is_wide
from debias.data.preparation import Preparation

# Of Pillow's many readers, those that are for photographs and start no other program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 300_000_000
DIGEST_BYTES = 16
# Pillow warns of large photographs; they are read all the same, up to our own limit.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_ORIENTATION = 0x0112
# Transpositions that undo each value of the EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImage(ValueError):
    """An image file that cannot be used; the message says why."""


def decode(content: bytes, preparation: Preparation) -> Image.Image:
    """Bytes of an image file to an upright RGB image of the size and framing of `preparation`.

    Resampling is bilinear with antialiasing. A JPEG much larger than needed is decoded at a fraction of its size. Other
    depths than 8 bits are scaled by what the file says, transparent pixels laid on white (`data.photos.depths`).

    Raises
    ------
    BrokenImage
        Empty, truncated, damaged, too large, of a depth whose range is unknown, or no image of a kind that is read.
    """
    if not content:
        raise BrokenImage("empty file")
    size = preparation.size
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BrokenImage(f"{opened.width} x {opened.height} pixels, more than {MAX_PIXELS // 10**6} million")
            wide = is_wide(opened)
            turned = opened.getexif().get(_ORIENTATION, 1)
            # Twice the size that is needed keeps what is left of the work to the antialiased resampling.
            opened.draft("RGB", (round(2 * size * preparation.margin),) * 2)
            image = as_rgb(opened, wide)
        image = framed(image, preparation)
        return image.transpose(_UPRIGHT[turned]) if turned in _UPRIGHT else image
    except BrokenImage:
        raise
    except MemoryError:
        raise
    except Exception as error:  # what damaged files raise in Pillow's readers has no common type
        raise BrokenImage(_reason(error)) from error


def framed(image: Image.Image, preparation: Preparation) -> Image.Image:
    """An RGB image at the size and in the framing of `preparation`; bilinear, with antialiasing."""
    width, height = image.size
    size = preparation.size
    square = (size, size)
    if preparation.framing == "pad":
        shrink = size / max(width, height)
        inner = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        padded = Image.new("RGB", square)
        padded.paste(image.resize(inner, Image.Resampling.BILINEAR), ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return padded
    if preparation.framing == "crop":
        side = min(width, height) / preparation.margin
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        if (width, height) != square or preparation.margin != 1:
            return image.resize(square, Image.Resampling.BILINEAR, box=box)
    elif (width, height) != square:
        return image.resize(square, Image.Resampling.BILINEAR)
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image of a kind that is read"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@dataclass
class Decoded:
    """What `fill` learnt: digests of the files' contents and of the rows they gave, uint8 [N, 16] each, whether a row
    is of one colour throughout, bool [N], and by position why a file has no image."""

    contents: np.ndarray
    pixels: np.ndarray
    constant: np.ndarray
    faults: dict[int, str]


def fill(
    files: Files,
    names: Sequence[str],
    preparation: Mapping[str, Any] | Preparation,
    out: np.ndarray,
    workers: int | None = None,
    advance: Callable[[int], Any] = lambda count: None,
) -> Decoded:
    """Decode `names` into the rows of `out`, uint8 [N, 3, size, size], on `workers` threads (None: one a core).

    Rows of files that cannot be used are left as they are. `advance` is told how many files are done.
    """
    how = preparation if isinstance(preparation, Preparation) else Preparation(**preparation)
    contents, pixels = np.zeros((2, len(names), DIGEST_BYTES), dtype=np.uint8)
    decoded = Decoded(contents, pixels, np.zeros(len(names), dtype=bool), {})

    def work(tasks: list[tuple[int, Read]]) -> list[tuple[int, str]]:
        faults = []
        for position, read in tasks:
            try:
                content = read()
                contents[position] = digest(content)
                # Plane by plane: bands are split faster than an array is transposed.
                for plane, band in zip(out[position], decode(content, how).split(), strict=True):
                    plane[:] = np.asarray(band)
                decoded.constant[position] = all(plane.min() == plane.max() for plane in out[position])
            except FileNotFoundError:
                faults.append((position, "no such file"))
            except OSError as error:
                faults.append((position, f"cannot be read ({error.strerror or error})"))
            except ValueError as error:
                faults.append((position, str(error)))
            pixels[position] = digest(out[position].data)
        return faults

    Image.init()
    count = workers or cores()
    waiting: deque[tuple[int, Future[list[tuple[int, str]]]]] = deque()
    tasks: list[tuple[int, Read]] = []

    def collect(limit: int) -> None:
        while len(waiting) > limit:
            size, future = waiting.popleft()
            decoded.faults.update(future.result())
            advance(size)

    with ThreadPoolExecutor(count, thread_name_prefix="decode") as pool:
        try:
            for task in files.each(names):
                tasks.append(task)
                if len(tasks) == 8:
                    waiting.append((len(tasks), pool.submit(work, tasks)))
                    tasks = []
                    # Few enough that an archive's contents do not pile up in memory.
                    collect(4 * count)
            waiting.append((len(tasks), pool.submit(work, tasks)))
            collect(0)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return decoded


def digest(content: bytes | memoryview) -> np.ndarray:
    """uint8 [16]."""
    return np.frombuffer(hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(), dtype=np.uint8)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
