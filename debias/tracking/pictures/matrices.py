"""Matrices as PNG files: accuracy of every target x bias cell, and what is predicted for every class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from debias.metrics import GroupMatrix
from debias.tracking.pictures import canvas
from debias.tracking.pictures.canvas import DPI, GREY, LINE, MARGIN, OUTLINE, STYLE, WIDTH
from debias.vocabulary import GROUP_FIGURES


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
    values = {name: getattr(matrix, name) for name in (GROUP_FIGURES if matrix.has_bias else ("average",))}
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
    """A canvas with a matrix, its names along two axes, and swatches beside those that have colours."""
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
        row_labels, column_labels = (
            [canvas.fit(name, 1.3) for name in row_names],
            [canvas.fit(name, 1.2) for name in column_names],
        )
        longest = max(map(canvas.measure, column_labels))
        row_swatch = 0.0 if row_colours is None else 0.2
        left = MARGIN + 0.36 + max(map(canvas.measure, row_labels)) + row_swatch
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
        canvas.start(figure, max(WIDTH, left + columns * cell_width + MARGIN), top, title, subtitle)
        _draw_cells(figure, matrix, left, top, cell_width, cell_height)
        for row, name in enumerate(row_labels):
            y = top - (row + 0.5) * cell_height
            if row_colours is not None:
                side = min(cell_height - 0.1, 0.32)
                _swatch(figure, left - 0.19, y - side / 2, 0.13, side, row_colours[row])
            canvas.write(figure, left - row_swatch - 0.08, y, name, ha="right", va="center_baseline")
        for column, name in enumerate(column_labels):
            x = left + (column + 0.5) * cell_width
            if column_colours is not None:
                side = min(cell_width - 0.1, 0.5)
                _swatch(figure, x - side / 2, bottom - 0.19, side, 0.13, column_colours[column])
            slant = {"ha": "right", "rotation": 45, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
            canvas.write(figure, x, bottom - swatch - 0.06, name, va="top", **slant)
        centred = {"color": GREY, "ha": "center"}
        canvas.write(figure, MARGIN + 0.08, (top + bottom) / 2, axes[0], va="center", rotation=90, **centred)
        if axes[1]:
            canvas.write(figure, left + columns * cell_width / 2, MARGIN + LINE + 0.04, axes[1], **centred)
        said = [*notes, *(["hatched: no images"] if (matrix.counts == 0).any() else [])]
        canvas.write(figure, MARGIN, MARGIN - 0.03, ", ".join(said), color=GREY, fontsize=8)
        return canvas.save(figure, path)


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
        canvas.box(
            figure, x, y, cell_width, cell_height, edgecolor="#AAAAAA" if empty else "white", linewidth=0.8, **look
        )
        if aligned[row, column]:
            pad = 0.022
            edge = {"edgecolor": OUTLINE, "linewidth": 2.2, "fill": False}
            canvas.box(figure, x + pad, y + pad, cell_width - 2 * pad, cell_height - 2 * pad, **edge)
        number = "-" if empty else f"{accuracy[row, column]:.1f}".replace("100.0", "100")
        ink = "white" if dark[row, column] and not empty else "black"
        centre = (x + cell_width / 2, y + cell_height / 2)
        patch = {"facecolor": "white", "edgecolor": "none", "pad": 2} if empty else None
        canvas.write(figure, *centre, number, color=ink, fontsize=size, ha="center", va="center_baseline", bbox=patch)


def _swatch(figure: Figure, x: float, y: float, width: float, height: float, colour: NDArray[np.floating]) -> None:
    canvas.box(figure, x, y, width, height, facecolor=np.clip(np.asarray(colour), 0, 1), edgecolor=GREY, linewidth=0.5)
