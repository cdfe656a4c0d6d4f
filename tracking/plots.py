"""Curves, the target x bias matrix and contact sheets as PNG files, readable at the width of a phone.

Pages are laid out in inches from the bottom left, and every text is measured before it is placed, so that labels of
any length fit. Names are drawn as they are written: no mathtext, no special meaning of a leading underscore.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from metrics import FIGURES, GroupMatrix

DPI = 150
WIDTH, MARGIN, LINE = 6.0, 0.14, 0.19  # inches: page, its edge, a line of small text
SMALL, TITLE = 9.5, 12.5  # points
MAX_IMAGES = 600

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
INK, GREY, LIGHT, OUTLINE = "#222222", "#666666", "#DDDDDD", "#D55E00"
FONT = "DejaVu Sans"
STYLE: Any = {"font.family": FONT, "text.usetex": False, "text.parse_math": False, "hatch.linewidth": 0.7}


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
    names = [_fit(label, WIDTH - 2 * MARGIN - 0.6) for label in (*series, *levels)]
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
        names = [_fit(name, 1.7) for name in names] if spots else names
        legend = [] if spots else _flow([_width(name) + 0.6 for name in names], WIDTH - 2 * MARGIN)
        rows = legend[-1][0] + 1 if legend else 0
        low, high = axes.get_ylim()
        ticks = axes.yaxis.get_major_formatter().format_ticks(
            [tick for tick in axes.get_yticks() if low <= tick <= high]
        )
        left = MARGIN + 0.06 + max(map(_width, ticks), default=0.0)
        right = MARGIN + (max(map(_width, names)) if spots else 0.0)
        bottom = MARGIN + 0.36 + LINE * rows + 0.08 * bool(rows)
        drawn = any(np.isfinite(points).all(1).any() for points in curves)
        height = _start(figure, WIDTH, bottom + plot_height, title, ylabel if drawn else "no points")
        axes.set_position((left / WIDTH, bottom / height, 1 - (left + right + 0.1) / WIDTH, plot_height / height))
        for y, name, line in zip(spots, names, lines, strict=False):
            _text(figure, WIDTH - right, bottom + y, name, color=line.get_color(), va="center_baseline")
        for (row, x), name, line in zip(legend, names, lines, strict=False):
            x, y = MARGIN + x, MARGIN + LINE * (rows - row - 0.5)
            sample = Line2D((x, x + 0.15, x + 0.3), (y, y, y), transform=figure.dpi_scale_trans, markevery=[1])
            sample.set(color=line.get_color(), linestyle=line.get_linestyle(), linewidth=line.get_linewidth())
            sample.set(marker=line.get_marker(), markersize=4.5)
            figure.add_artist(sample)
            _text(figure, x + 0.37, y, name, va="center_baseline")
        return _save(figure, path)


def plot_matrix(
    matrix: GroupMatrix,
    *,
    target_names: Sequence[str],
    bias_names: Sequence[str],
    bias_colours: NDArray[np.floating] | None = None,
    title: str,
    path: Path,
) -> Path:
    """Accuracy of every target x bias cell in percent, with the figures read off it; returns `path`.

    `bias_colours` is float [B, 3] in [0, 1], drawn as swatches along the bias axis. Aligned cells are outlined, empty
    cells hatched. Raises ValueError when names or colours do not fit the matrix.
    """
    values = {name: getattr(matrix, name) for name in (FIGURES if matrix.has_bias else ("average",))}
    shown = [f"{name}\u00a0{'-' if value is None else format(value, '.1f')}" for name, value in values.items()]
    notes = ["accuracy in %", *(["outlined: aligned"] if matrix.has_bias else [])]
    axes = ("target", "bias" if matrix.has_bias else "")
    return _plot_cells(
        matrix, target_names, bias_names, axes, notes, title, " · ".join(shown), path, column_colours=bias_colours
    )


def plot_confusion(
    counts: NDArray[np.int64],
    *,
    class_names: Sequence[str],
    class_colours: NDArray[np.floating] | None = None,
    title: str,
    path: Path,
) -> Path:
    """What is predicted for the images of every class, in percent of them; returns `path`.

    Parameters
    ----------
    counts : int64 [T, T]
        Images of each target that are predicted as each class.
    class_colours : float [T, 3] in [0, 1]
        The mean colour that a class is tied to, drawn as swatches along both axes.
    """
    matrix = GroupMatrix(counts, np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape))
    right = f"{100.0 * np.trace(counts) / max(1, counts.sum()):.1f} % of the images are predicted right"
    notes = ["share of a target's images in %", "outlined: right"]
    return _plot_cells(
        matrix, class_names, class_names, ("target", "prediction"), notes, title, right, path,
        row_colours=class_colours, column_colours=class_colours,
    )  # fmt: skip


def _plot_cells(
    matrix: GroupMatrix,
    row_names: Sequence[str],
    column_names: Sequence[str],
    axes: tuple[str, str],
    notes: Sequence[str],
    title: str,
    subtitle: str,
    path: Path,
    row_colours: NDArray[np.floating] | None = None,
    column_colours: NDArray[np.floating] | None = None,
) -> Path:
    """A page with a matrix, its names along two axes, and swatches beside those that have colours."""
    rows, columns = matrix.counts.shape
    for axis, number, names, colours in (
        (axes[0], rows, row_names, row_colours),
        (axes[1], columns, column_names, column_colours),
    ):
        if len(names) != number:
            raise ValueError(f"{len(names)} {axis} names for a {rows} x {columns} matrix")
        if colours is not None and np.shape(colours) != (number, 3):
            raise ValueError(f"{axis}_colours must be [{number}, 3], not {list(np.shape(colours))}")
    with mpl.rc_context(STYLE):
        row_labels, column_labels = [_fit(name, 1.3) for name in row_names], [_fit(name, 1.2) for name in column_names]
        longest = max(map(_width, column_labels))
        row_swatch = 0.0 if row_colours is None else 0.2
        left = MARGIN + 0.36 + max(map(_width, row_labels)) + row_swatch
        cell_width = float(np.clip((WIDTH - left - MARGIN) / columns, 0.46, 2.4))
        slanted = longest > cell_width - 0.08
        if slanted:
            left = max(left, MARGIN + 0.75 * longest - cell_width / 2)
            cell_width = max(0.46, (WIDTH - left - MARGIN) / columns)
        cell_height = float(np.clip(0.8 * cell_width, 0.4, 0.66 if rows < 5 else 0.42))
        swatch = 0.0 if column_colours is None else 0.2
        bottom = MARGIN + LINE * (1 + bool(axes[1])) + 0.12 + swatch + (0.75 * longest + 0.05 if slanted else LINE)
        top = bottom + rows * cell_height
        figure = Figure(dpi=DPI, facecolor="white")
        _start(figure, max(WIDTH, left + columns * cell_width + MARGIN), top, title, subtitle)
        _draw_cells(figure, matrix, left, top, cell_width, cell_height)
        for row, name in enumerate(row_labels):
            y = top - (row + 0.5) * cell_height
            if row_colours is not None:
                side = min(cell_height - 0.1, 0.32)
                _swatch(figure, left - 0.19, y - side / 2, 0.13, side, row_colours[row])
            _text(figure, left - row_swatch - 0.08, y, name, ha="right", va="center_baseline")
        for column, name in enumerate(column_labels):
            x = left + (column + 0.5) * cell_width
            if column_colours is not None:
                side = min(cell_width - 0.1, 0.5)
                _swatch(figure, x - side / 2, bottom - 0.19, side, 0.13, column_colours[column])
            slant = {"ha": "right", "rotation": 45, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
            _text(figure, x, bottom - swatch - 0.06, name, va="top", **slant)
        _text(figure, MARGIN + 0.08, (top + bottom) / 2, axes[0], color=GREY, ha="center", va="center", rotation=90)
        if axes[1]:
            _text(figure, left + columns * cell_width / 2, MARGIN + LINE + 0.04, axes[1], color=GREY, ha="center")
        said = [*notes, *(["hatched: no images"] if (matrix.counts == 0).any() else [])]
        _text(figure, MARGIN, MARGIN - 0.03, ", ".join(said), color=GREY, fontsize=8)
        return _save(figure, path)


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
    lines = [[_fit(line, pitch, 8) for line in text.split("\n")[:2]] for text in (captions or ())[:count]]
    caption_height = 0.155 * max(map(len, lines), default=0)
    step = (tile_height + gap) / DPI + caption_height
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        _start(figure, max(WIDTH, columns * pitch + 2 * MARGIN), MARGIN + rows * step, title, note)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, columns)
            x, y = MARGIN + column * pitch, MARGIN + (rows - row) * step - tile_height / DPI
            figure.figimage(tile, round(x * DPI), round(y * DPI), origin="upper")
            for number, line in enumerate(lines[index] if lines else ()):
                centre = x + tile_width / DPI / 2
                _text(figure, centre, y - 0.03 - 0.155 * number, line, fontsize=8, ha="center", va="top")
        return _save(figure, path)


def _draw_cells(
    figure: Figure, matrix: GroupMatrix, left: float, top: float, cell_width: float, cell_height: float
) -> None:
    accuracy, aligned = matrix.accuracy, matrix.aligned_cells
    colours = mpl.colormaps["Blues"](0.06 + 0.84 * accuracy / 100)[..., :3]
    dark = colours @ (0.299, 0.587, 0.114) < 0.45
    size = 9 if cell_width < 0.8 else 11
    for row, column in np.ndindex(accuracy.shape):
        x, y = left + column * cell_width, top - (row + 1) * cell_height
        empty = np.isnan(accuracy[row, column])
        look = {"facecolor": "white", "hatch": "////"} if empty else {"facecolor": colours[row, column]}
        _box(figure, x, y, cell_width, cell_height, edgecolor="#AAAAAA" if empty else "white", linewidth=0.8, **look)
        if aligned[row, column]:
            pad = 0.022
            edge = {"edgecolor": OUTLINE, "linewidth": 2.2, "fill": False}
            _box(figure, x + pad, y + pad, cell_width - 2 * pad, cell_height - 2 * pad, **edge)
        number = "-" if empty else f"{accuracy[row, column]:.1f}".replace("100.0", "100")
        ink = "white" if dark[row, column] and not empty else "black"
        centre = (x + cell_width / 2, y + cell_height / 2)
        patch = {"facecolor": "white", "edgecolor": "none", "pad": 2} if empty else None
        _text(figure, *centre, number, color=ink, fontsize=size, ha="center", va="center_baseline", bbox=patch)


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


@lru_cache(maxsize=4096)
def _width(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Inches that one line of text takes."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    return RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, False)[0] / DPI


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\u00a0" else " " for char in text)


def _fit(text: str, width: float, size: float = SMALL, weight: str = "normal") -> str:
    """`text` as one printable line of at most `width` inches, with an ellipsis where it was cut."""
    line = " ".join(_printable(text).split())[:500]
    if _width(line, size, weight) <= width:
        return line
    fitting = bisect_right(range(len(line)), width, key=lambda length: _width(line[:length] + "…", size, weight))
    return line[: max(0, fitting - 1)].rstrip() + "…"


def _start(figure: Figure, width: float, top: float, title: str, subtitle: str) -> float:
    """Size the page, its body reaching up to `top`, and write title and subtitle above; returns the page's height."""
    heads: list[tuple[str, dict[str, Any]]] = []
    for text, size, weight, colour in ((title, TITLE, "bold", INK), (subtitle, SMALL, "normal", GREY)):
        look: dict[str, Any] = {"fontsize": size, "fontweight": weight, "color": colour}
        heads += [(line, look) for line in _wrap(text, width - 2 * MARGIN, size, weight)]
    height = top + 0.12 + sum(look["fontsize"] for _, look in heads) * 1.35 / 72 + MARGIN - 0.05
    # Whole pixels, as an image placed on the page must not be resampled.
    figure.set_size_inches(round(width * DPI) / DPI, round(height * DPI) / DPI)
    depth = MARGIN - 0.05
    for line, look in heads:
        depth += look["fontsize"] * 1.35 / 72
        _text(figure, MARGIN, height - depth, line, **look)
    return height


def _wrap(text: str, width: float, size: float, weight: str) -> list[str]:
    """At most three lines."""
    lines: list[str] = []
    # Not split(), which would also break at a no-break space.
    for word in _printable(text).split(" "):
        if lines and (len(lines) == 3 or _width(f"{lines[-1]} {word}", size, weight) <= width):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [line for line in (_fit(line, width, size, weight) for line in lines) if line]


def _text(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    figure.text(x, y, text, transform=figure.dpi_scale_trans, **{"fontsize": SMALL, "color": INK, **look})


def _box(figure: Figure, x: float, y: float, width: float, height: float, **look: Any) -> None:
    figure.add_artist(Rectangle((x, y), width, height, transform=figure.dpi_scale_trans, **look))


def _swatch(figure: Figure, x: float, y: float, width: float, height: float, colour: NDArray[np.floating]) -> None:
    _box(figure, x, y, width, height, facecolor=np.clip(np.asarray(colour), 0, 1), edgecolor=GREY, linewidth=0.5)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return path
