"""Where models look: each image beside the heat of one model or two, with what they answer."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from debias.models.heat import normalised, resized
from debias.study.looks import DIFFER, SUSPECT, Looks
from debias.tracking.pictures import canvas
from debias.tracking.pictures.canvas import DPI, GREY, MARGIN, OUTLINE, STYLE, WIDTH

# Perceptually uniform, and dark where there is nothing. How much of the image it covers.
_COLOURS, _COVER = "inferno", 0.65
_GAP, _CAPTION, _HEAD = 0.05, 0.17, 0.2  # inches
_HEADS = {SUSPECT: "go against the shortcut most", DIFFER: "answered differently"}


def plot_heat(looks: Looks, names: tuple[str, ...], *, title: str, path: Path) -> Path:
    """Two blocks, suspects and images that two models answer differently; in a row an image and the heat of each model.

    names : of the classes. Raises ValueError where there is no heat.
    """
    if not looks.heat:
        raise ValueError("no model has maps")
    blocks = [[place for place, why in enumerate(looks.why) if why == one] for one in (SUSPECT, DIFFER)]
    kinds = [one for one, block in zip((SUSPECT, DIFFER), blocks, strict=True) if block]
    blocks = [block for block in blocks if block]
    if len(blocks) == 1:
        # One block alone would leave half of the canvas empty.
        half = -(-len(blocks[0]) // 2)
        blocks, kinds = [blocks[0][:half], blocks[0][half:]], [*kinds, ""]
    models = list(looks.heat)
    columns = 1 + len(models)
    between = 0.16
    side = min(1.3, ((WIDTH - 2 * MARGIN - between) / 2 - (columns - 1) * _GAP) / columns)
    height, width = looks.images.shape[2:]
    pixels = (
        max(1, round(side * DPI * height / max(height, width))),
        max(1, round(side * DPI * width / max(height, width))),
    )
    tiles = {name: overlaid(looks, name, pixels) for name in models}
    plain = _pixels(looks.images, pixels)
    step = pixels[0] / DPI + _CAPTION + _GAP
    rows = max(len(block) for block in blocks)
    body = MARGIN + rows * step
    subtitle = "bright: what speaks most for the answer, which stands below, in orange where it is wrong"
    subtitle += f"; outlined: {' and '.join(region.where for region in looks.regions)}" if looks.regions else ""
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        canvas.start(figure, WIDTH, body + 2 * _HEAD, title, subtitle)
        for number, (block, kind) in enumerate(zip(blocks, kinds, strict=True)):
            left = MARGIN + number * ((WIDTH - 2 * MARGIN - between) / 2 + between)
            canvas.write(figure, left, body + _HEAD + 0.06, _HEADS.get(kind, ""), fontsize=8.5, color=GREY)
            for column, head in enumerate(("image", *models)):
                x = left + column * (side + _GAP)
                size = next((size for size in (8, 7, 6.5) if canvas.measure(head, size, "bold") <= side), 6.5)
                text = canvas.fit(head, side, size, "bold")
                canvas.write(figure, x + side / 2, body + 0.06, text, fontsize=size, fontweight="bold", ha="center")
            for row, place in enumerate(block):
                said = [
                    f"{names[int(looks.target[place])]}",
                    *(names[int(looks.answers[one][place])] for one in models),
                ]
                shown = [plain[place], *(tiles[one][place] for one in models)]
                for column, (tile, word) in enumerate(zip(shown, said, strict=True)):
                    x = left + column * (side + _GAP)
                    y = body - row * step - pixels[0] / DPI
                    figure.figimage(tile, round(x * DPI), round(y * DPI), origin="upper")
                    wrong = column > 0 and word != said[0]
                    canvas.write(
                        figure, x + side / 2, y - 0.03, canvas.fit(word, side, 8), fontsize=8, ha="center", va="top",
                        color=OUTLINE if wrong else canvas.INK, fontweight="bold" if wrong else "normal",
                    )  # fmt: skip
        return canvas.save(figure, path)


def overlaid(looks: Looks, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Grey images under the heat of a model, and the outlines of regions: uint8 [N, H, W, 3] of some size."""
    heat = resized(normalised(looks.heat[name]), size).clamp(0, 1).numpy()
    colours = colormaps[_COLOURS](heat)[..., :3]
    grey = _pixels(looks.images, size).mean(-1, keepdims=True) / 255
    mixed = _COVER * colours + (1 - _COVER) * grey
    tiles = (255 * mixed).round().astype(np.uint8)
    for region in looks.regions:
        tiles[:, _outline(region.mask, size)] = 255
    return tiles


def _outline(mask: Tensor, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a region that have a neighbour outside of it, within the image; bool [H, W]."""
    inside = interpolate(mask.float()[None, None], size)[0, 0].numpy() > 0.5
    padded = np.pad(inside, 1, mode="edge")
    around = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    return inside & ~np.logical_and.reduce(around)


def _pixels(images: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB uint8 [N, H, W, 3] at some size."""
    rgb = interpolate(images.expand(-1, 3, -1, -1).float(), size, mode="bilinear", antialias=True)
    return rgb.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
