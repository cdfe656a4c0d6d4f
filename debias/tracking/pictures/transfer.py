"""Pictures of a diagnosis: rates of operators as bars, places of an image as a map, and what a network was shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from debias.diagnosis.rates import Moved, Network, Pairs
from debias.tracking.pictures import canvas
from debias.tracking.pictures.canvas import DPI, GREY, INK, LIGHT, MARGIN, STYLE, WIDTH
from debias.tracking.pictures.plots import plot_images

_ROW, _BAR = 0.26, 0.15  # inches
_TRANSFERRED, _KEPT = "#0072B2", "#009E73"


def plot_rates(moved: Sequence[Moved], *, title: str, path: Path, named: str = "") -> Path:
    """A bar for each operator: transferred with its interval, chance as a stroke, what is kept as a dot."""
    names = [one.operator.name for one in moved]
    left = MARGIN + max([canvas.measure(name, weight="bold") for name in names], default=0.5) + 0.12
    right = WIDTH - MARGIN - 0.45
    bottom = MARGIN + 0.5
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        top = bottom + _ROW * len(moved)
        canvas.start(
            figure,
            WIDTH,
            top + 0.05,
            title,
            "answers that move with a property, % of pairs, and 95 % intervals",
        )
        wide = right - left
        for mark in (0, 25, 50, 75, 100):
            x = left + wide * mark / 100
            canvas.box(figure, x, bottom, 0.006, top - bottom, facecolor=LIGHT, edgecolor="none", zorder=0)
            canvas.write(figure, x, bottom - 0.06, str(mark), ha="center", va="top", fontsize=8, color=GREY)
        for row, one in enumerate(moved):
            y = top - _ROW * (row + 0.5)
            bold = one.operator.name == named
            weight = "bold" if bold else "normal"
            canvas.write(figure, left - 0.08, y, one.operator.name, ha="right", va="center", fontweight=weight)
            share = one.transferred
            look = {"facecolor": _TRANSFERRED, "edgecolor": "none", "alpha": 1.0 if bold else 0.55, "zorder": 2}
            canvas.box(figure, left, y - _BAR / 2, max(0.004, wide * share.value), _BAR, **look)
            start, end = left + wide * share.low, left + wide * share.high
            canvas.box(figure, start, y - 0.008, end - start, 0.016, facecolor=INK, edgecolor="none", zorder=4)
            canvas.box(
                figure, left + wide * one.chance.value - 0.008, y - 0.1, 0.016, 0.2, facecolor="#D55E00", zorder=5,
                edgecolor="none",
            )  # fmt: skip
            if one.kept is not None:
                canvas.write(figure, left + wide * one.kept.value, y, "●", ha="center", va="center_baseline",
                           fontsize=7, color=_KEPT, zorder=6)  # fmt: skip
            canvas.write(figure, right + 0.05, y, f"{100 * share.value:.0f}", va="center", fontweight=weight)
        x = MARGIN
        for colour, text in ((_TRANSFERRED, "moves to the donor"), ("#D55E00", "by chance"), (_KEPT, "target kept")):
            canvas.box(figure, x, MARGIN + 0.02, 0.12, 0.1, facecolor=colour, edgecolor="none")
            canvas.write(figure, x + 0.17, MARGIN + 0.07, text, va="center_baseline", fontsize=8.5)
            x += 0.17 + canvas.measure(text) + 0.25
        return canvas.save(figure, path)


def plot_places(images: Tensor, moved: Sequence[Moved], *, title: str, path: Path) -> Path | None:
    """The mean of uint8 images [N, C, H, W], and over each cell of the grid how many answers move with it.

    None where no operator moves a cell.
    """
    cells = {
        tuple(map(int, one.operator.name.split("_")[1:])): one
        for one in moved
        if one.operator.name.startswith("patch_")
    }
    if not cells:
        return None
    rows, columns = (1 + max(place[axis] for place in cells) for axis in (0, 1))
    mean = images.float().mean(0).round().to(torch.uint8)
    picture = mean.expand(3, -1, -1).permute(1, 2, 0).numpy()
    height, width = picture.shape[:2]
    side = 3.6
    tall = side * height / width
    left = (WIDTH - side) / 2
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        total = canvas.start(
            figure, WIDTH, MARGIN + tall + 0.05, title, "the mean image, and % of answers that move with each place"
        )
        axes = figure.add_axes((left / WIDTH, MARGIN / total, side / WIDTH, tall / total))
        axes.imshow(picture, extent=(0, columns, rows, 0), aspect="auto", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for (row, column), one in cells.items():
            value = max(0.0, one.effect)
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor=to_rgba("#D55E00", 0.75 * value), edgecolor="white")
            )
            axes.text(
                column + 0.5, row + 0.5, f"{100 * one.transferred.value:.0f}", ha="center", va="center",
                fontsize=15, color="white", fontweight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground="#222222")],
            )  # fmt: skip
        return canvas.save(figure, path)


@torch.no_grad()
def plot_moves(
    one: Moved, network: Network, images: Tensor, pairs: Pairs, names: Sequence[str], *, path: Path, rows: int = 4
) -> Path:
    """Pairs, two in a row: x, z and T(x, z), each with what the network answers; the first in the order of `pairs`."""
    count = min(2 * rows, len(pairs.x))
    x, z = (images[place[:count]].float() / 255 for place in (pairs.x, pairs.z))
    shown = torch.stack([x, z, one.operator.apply(x, z)], dim=1).flatten(0, 1)
    said = network(shown).argmax(1).tolist()
    captions = [f"{what}\n{names[label]}" for what, label in zip(("x", "z", "T(x, z)") * count, said, strict=True)]
    return plot_images(
        (255 * shown).round().to(torch.uint8),
        captions,
        title=f"{one.operator.name}: {one.operator.summary}, from z onto x, and the network's answers",
        path=path,
        columns=6,
    )
