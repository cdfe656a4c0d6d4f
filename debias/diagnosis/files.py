"""Simple properties of image files: size, format, camera, day."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from debias.data.properties.prediction import UNKNOWN

FILE_PROPERTIES = ("file size", "width", "height", "aspect of the file", "format", "camera", "date")
_EXIF = {"camera": 0x0110, "date": 0x0132}


def file_properties(paths: Sequence[str]) -> dict[str, list[float | str]]:
    """Of image files: size in bytes, width, height, format and, where any file tells, camera and day.

    A file that is not there as a file (a member of an archive) or cannot be read gets "unknown" everywhere; nothing is
    given where that is so of all.
    """
    rows = [_of_file(Path(path)) for path in paths]
    columns = {name: [row.get(name, UNKNOWN) for row in rows] for name in FILE_PROPERTIES}
    return {name: values for name, values in columns.items() if any(value != UNKNOWN for value in values)}


def _of_file(path: Path) -> dict[str, float | str]:
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            about: dict[str, float | str] = {
                "file size": float(len(content)),
                "width": float(image.width),
                "height": float(image.height),
                "aspect of the file": image.width / image.height,
                "format": str(image.format),
            }
            exif = image.getexif()
            for name, tag in _EXIF.items():
                if exif.get(tag):
                    about[name] = str(exif[tag])[:10]
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return {}
    return about
