"""Curves and contact sheets as PNG files, readable at the width of a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from debias.tracking.pictures import canvas
from debias.tracking.pictures.canvas import DPI, GREY, INK, LIGHT, LINE, MARGIN, SMALL, STYLE, WIDTH

MAX_IMAGES = 600

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


def plot_curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    ylabel: str,
    path: Path,
    reference: Mapping[str, float] | None = None,
) -> Path:
    """Lines of (epoch, value) points, with dashed levels such as published figures; returns `path`.

    A line is named at its end. Where names would lie too close, or lines end at different epochs, there is a legend
    below instead. Values that are not finite are gaps.
    """
    curves = [np.array(values, dtype=float).reshape(-1, 2) for values in series.values()]
    levels = {label: level for label, level in (reference or {}).items() if np.isfinite(level)}
    names = [canvas.fit(label, WIDTH - 2 * MARGIN - 0.6) for label in (*series, *levels)]
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for number, points in enumerate(curves):
            points[~np.isfinite(points)] = np.nan
            look = {"color": COLOURS[number % 7], "linestyle": DASHES[number // 7 % 3], "linewidth": 1.8, "zorder": 3}
            marker = "o" if np.isfinite(points).all(1).sum() <= 12 else ""
            axes.plot(*points[np.argsort(points[:, 0])].T, marker=marker, markersize=4.5, **look)
        for level in levels.values():
            axes.axhline(level, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
        lines = list(axes.get_lines())
        _tidy(axes)

        plot_height = 2.9
        spots = _end_spots(lines, len(curves), axes, plot_height)
        names = [canvas.fit(name, 1.7) for name in names] if spots else names
        legend = [] if spots else _flow([canvas.measure(name) + 0.6 for name in names], WIDTH - 2 * MARGIN)
        rows = legend[-1][0] + 1 if legend else 0
        low, high = axes.get_ylim()
        ticks = axes.yaxis.get_major_formatter().format_ticks(
            [tick for tick in axes.get_yticks() if low <= tick <= high]
        )
        left = MARGIN + 0.06 + max(map(canvas.measure, ticks), default=0.0)
        right = MARGIN + (max(map(canvas.measure, names)) if spots else 0.0)
        bottom = MARGIN + 0.36 + LINE * rows + 0.08 * bool(rows)
        drawn = any(np.isfinite(points).all(1).any() for points in curves)
        height = canvas.start(figure, WIDTH, bottom + plot_height, title, ylabel if drawn else "no points")
        axes.set_position((left / WIDTH, bottom / height, 1 - (left + right + 0.1) / WIDTH, plot_height / height))
        for y, name, line in zip(spots, names, lines, strict=False):
            canvas.write(figure, WIDTH - right, bottom + y, name, color=line.get_color(), va="center_baseline")
        for (row, x), name, line in zip(legend, names, lines, strict=False):
            x, y = MARGIN + x, MARGIN + LINE * (rows - row - 0.5)
            sample = Line2D((x, x + 0.15, x + 0.3), (y, y, y), transform=figure.dpi_scale_trans, markevery=[1])
            sample.set(color=line.get_color(), linestyle=line.get_linestyle(), linewidth=line.get_linewidth())
            sample.set(marker=line.get_marker(), markersize=4.5)
            figure.add_artist(sample)
            canvas.write(figure, x + 0.37, y, name, va="center_baseline")
        return canvas.save(figure, path)


def plot_images(
    images: Tensor, captions: Sequence[str] | None = None, *, title: str, path: Path, columns: int = 10
) -> Path:
    """Contact sheet of uint8 [N, C, H, W] images, C = 1 or 3; returns `path`.

    Small images are enlarged by a whole factor, large ones averaged down. A caption may have two lines. Of more than
    `MAX_IMAGES` images the first are shown, and the sheet says so. Raises ValueError for another shape, dtype or
    number of captions.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        raise ValueError(f"expected uint8 [N, 1 or 3, H, W] images, got {images.dtype} {list(images.shape)}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images")
    count = min(len(images), MAX_IMAGES)
    note = "no images" if not count else f"the first {count} of {len(images)} images" if count < len(images) else ""
    columns, gap = max(1, min(columns, count)), 6
    tiles = _resize(images[:count], min(180, max(16, int((WIDTH - 2 * MARGIN) * DPI) // columns - gap)))
    tile_height, tile_width = tiles.shape[1:3]
    pitch = (tile_width + gap) / DPI
    lines = [[canvas.fit(line, pitch, 8) for line in text.split("\n")[:2]] for text in (captions or ())[:count]]
    caption_height = 0.155 * max(map(len, lines), default=0)
    step = (tile_height + gap) / DPI + caption_height
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        canvas.start(figure, max(WIDTH, columns * pitch + 2 * MARGIN), MARGIN + rows * step, title, note)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, columns)
            x, y = MARGIN + column * pitch, MARGIN + (rows - row) * step - tile_height / DPI
            figure.figimage(tile, round(x * DPI), round(y * DPI), origin="upper")
            for number, line in enumerate(lines[index] if lines else ()):
                centre = x + tile_width / DPI / 2
                canvas.write(figure, centre, y - 0.03 - 0.155 * number, line, fontsize=8, ha="center", va="top")
        return canvas.save(figure, path)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(True, color=LIGHT, linewidth=0.8)
    axes.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=INK)
    axes.margins(0.02, 0.06)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(style="plain", useOffset=False)
    axes.set_xlabel("epoch", fontsize=SMALL, color=GREY)


def _end_spots(lines: Sequence[Line2D], n_series: int, axes: Axes, height: float) -> list[float]:
    """Heights in inches for a name at the end of each line; empty when that would not be legible."""
    ends = []
    for line in lines[:n_series]:
        points = np.asarray(line.get_xydata())
        points = points[np.isfinite(points).all(1)]
        if not len(points):
            return []
        ends.append(points[-1])
    if len({epoch for epoch, _ in ends}) != 1:
        return []
    values = [value for _, value in ends] + [float(np.asarray(line.get_ydata())[0]) for line in lines[n_series:]]
    low, high = axes.get_ylim()
    wanted = (np.array(values) - low) / (high - low) * height
    spots = wanted.copy()
    for _ in range(50):
        for below, above in pairwise(np.argsort(wanted, kind="stable")):
            push = max(0.0, LINE - (spots[above] - spots[below])) / 2
            spots[below] -= push
            spots[above] += push
    apart = np.diff(np.sort(spots)).min(initial=LINE) > 0.9 * LINE
    return spots.tolist() if apart and np.abs(spots - wanted).max() < 1.2 * LINE else []


def _flow(widths: Sequence[float], available: float) -> list[tuple[int, float]]:
    """Row and left edge of boxes set one after the other like words."""
    spots, row, x = [], 0, 0.0
    for width in widths:
        if x and x + width > available + 0.2:
            row, x = row + 1, 0.0
        spots.append((row, x))
        x += width
    return spots


def _resize(images: Tensor, side: int) -> NDArray[np.uint8]:
    """RGB [N, h, w, 3], its longer edge near `side` pixels: by a whole factor up, or by averaging down."""
    rgb = images.detach().cpu().expand(-1, 3, -1, -1)
    longest = max(1, *rgb.shape[2:])
    if longest > side and len(rgb):
        edges = [max(1, edge * side // longest) for edge in rgb.shape[2:]]
        # In parts, as float copies of many large photographs would not fit in memory.
        small = [torch.nn.functional.interpolate(part.float(), size=edges, mode="area") for part in rgb.split(16)]
        rgb = torch.cat(small).round().byte()
    else:
        factor = max(1, round(side / longest))
        rgb = rgb.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return rgb.permute(0, 2, 3, 1).numpy()
