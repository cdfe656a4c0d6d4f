"""Pixels of any depth to 8 bits RGB on white, by what the file itself says of its range.

Pillow cuts floats and integers off at 255, keeps the high byte of 16 bits, and drops transparency: an image whose range
is another one would turn black without a word. What a file does not say is not guessed from one image, as the next
image of the same set would be scaled otherwise: such a file is refused.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# Tags of TIFF: bits of a sample, and the range of the samples as whoever wrote the file knew it.
_BITS, _LOWEST, _HIGHEST = 258, (340, 280), (341, 281)


class UnknownRange(ValueError):
    """The file does not say what is white; the message is for the user."""


def as_rgb(image: Image.Image, wide: bool = False) -> Image.Image:
    """An opened image as 8 bits RGB.

    Floats are light from 0 to 1, 16 bits from 0 to 65535 (a TIFF of 12 bits: to 4095), unless the tags of a TIFF give
    another range; whole numbers of 32 bits need one. Transparent pixels are laid on white. `wide`: what `is_wide` said
    of the image before anything was read of it.

    Raises
    ------
    UnknownRange
        Values outside the range, 32 bits without one, or 16 bits of which so few are used that the image is black.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(image)
    if image.has_transparency_data:
        laid = image.convert("RGBA")
        ground = Image.new("RGBA", laid.size, (255, 255, 255, 255))
        rgb = Image.alpha_composite(ground, laid).convert("RGB")
    else:
        laid = rgb = image.convert("RGB")
    if wide and max(high for _, high in laid.getextrema()[:3]) < 16:  # type: ignore[misc]
        raise UnknownRange("black at 16 bits a channel: save it with 8 bits, or with values up to 65535")
    return rgb


def _scaled(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    bits = _number(tags.get(_BITS)) or 16
    clear = image.info.get("transparency")
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnknownRange("values that are not finite")
    low, high = float(values.min()), float(values.max())
    lowest = next((found for tag in _LOWEST if (found := _number(tags.get(tag))) is not None), 0.0)
    highest = next((found for tag in _HIGHEST if (found := _number(tags.get(tag))) is not None), None)
    if highest is None:
        if image.mode == "F":
            highest = 1.0
        elif sixteen:
            highest = 2.0 ** min(bits, 16) - 1
        else:
            raise UnknownRange(f"whole numbers of {bits:g} bits ({low:g} to {high:g}) and nothing says what is white")
    if low < lowest or high > highest or lowest >= highest:
        raise UnknownRange(f"values from {low:g} to {high:g}, outside the range {lowest:g} to {highest:g}")
    # Images of a few bits in files of 16: a twelfth bit is a sixteenth of the range, at most 15 of 255.
    if sixteen and highest == 65535 and 0 < high < 4096:
        raise UnknownRange(
            f"16 bits, of which only the lowest are used (up to {high:g}): save it with 8 bits, or with values up to "
            "65535"
        )
    scaled = ((values - lowest) * (255 / (highest - lowest))).round().astype(np.uint8)
    if isinstance(clear, int):
        scaled[values == clear] = 255
    return Image.fromarray(scaled).convert("RGB")


def is_wide(image: Image.Image) -> bool:
    """Whether samples are stored with 16 bits, of which Pillow may keep the upper eight; only before they are read."""
    tiles = getattr(image, "tile", None) or ()
    return any(";16" in str(tile[-1]) for tile in tiles)


def _number(value: object) -> float | None:
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
