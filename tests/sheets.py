"""What stands on a contact sheet that was drawn."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure


@dataclass
class Sheet:
    """Tiles (uint8 [H, W, 3] each) in reading order, the lines below each, how many stand in a row, and the heading."""

    tiles: list[np.ndarray]
    captions: list[str]
    columns: int
    title: str


def sheet_on(page: Figure) -> Sheet:
    """Read a page of `plot_images` back, all of whose captions have equally many lines and a title of one line."""
    tiles = [np.asarray(image.get_array()) for image in page.images]
    title, *below = [text.get_text() for text in page.texts]
    each = len(below) // len(tiles)
    assert len(below) == each * len(tiles), "captions of several lengths"
    captions = ["\n".join(below[each * number : each * (number + 1)]) for number in range(len(tiles))]
    return Sheet(tiles, captions, len({image.ox for image in page.images}), title)
