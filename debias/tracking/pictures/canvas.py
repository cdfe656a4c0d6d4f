"""The canvas of a picture: laid out in inches from the bottom left, every text measured before it is placed.

So labels of any length fit. Names are drawn as they are written: no mathtext, no special meaning of a leading
underscore.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

DPI = 150
WIDTH, MARGIN, LINE = 6.0, 0.14, 0.19  # inches: canvas, its edge, a line of small text
SMALL, TITLE = 9.5, 12.5  # points

INK, GREY, LIGHT, OUTLINE = "#222222", "#666666", "#DDDDDD", "#D55E00"
FONT = "DejaVu Sans"
STYLE: Any = {"font.family": FONT, "text.usetex": False, "text.parse_math": False, "hatch.linewidth": 0.7}


@lru_cache(maxsize=4096)
def measure(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Inches that one line of text takes."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    return RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, False)[0] / DPI


def printable(text: str) -> str:
    """`text` with blanks instead of what no font draws."""
    return "".join(char if char.isprintable() or char == "\u00a0" else " " for char in text)


def fit(text: str, width: float, size: float = SMALL, weight: str = "normal") -> str:
    """`text` as one printable line of at most `width` inches, with an ellipsis where it was cut."""
    line = " ".join(printable(text).split())[:500]
    if measure(line, size, weight) <= width:
        return line
    fitting = bisect_right(range(len(line)), width, key=lambda length: measure(line[:length] + "…", size, weight))
    return line[: max(0, fitting - 1)].rstrip() + "…"


def start(figure: Figure, width: float, top: float, title: str, subtitle: str) -> float:
    """Size the canvas, its body reaching up to `top`, and write title and subtitle above; returns its height."""
    heads: list[tuple[str, dict[str, Any]]] = []
    for text, size, weight, colour in ((title, TITLE, "bold", INK), (subtitle, SMALL, "normal", GREY)):
        look: dict[str, Any] = {"fontsize": size, "fontweight": weight, "color": colour}
        heads += [(line, look) for line in wrap(text, width - 2 * MARGIN, size, weight)]
    height = top + 0.12 + sum(look["fontsize"] for _, look in heads) * 1.35 / 72 + MARGIN - 0.05
    # Whole pixels, as an image placed on the canvas must not be resampled.
    figure.set_size_inches(round(width * DPI) / DPI, round(height * DPI) / DPI)
    depth = MARGIN - 0.05
    for line, look in heads:
        depth += look["fontsize"] * 1.35 / 72
        write(figure, MARGIN, height - depth, line, **look)
    return height


def wrap(text: str, width: float, size: float, weight: str) -> list[str]:
    """At most three lines."""
    lines: list[str] = []
    # Not split(), which would also break at a no-break space.
    for word in printable(text).split(" "):
        if lines and (len(lines) == 3 or measure(f"{lines[-1]} {word}", size, weight) <= width):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [line for line in (fit(line, width, size, weight) for line in lines) if line]


def write(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """One line of text, placed in inches."""
    figure.text(x, y, text, transform=figure.dpi_scale_trans, **{"fontsize": SMALL, "color": INK, **look})


def box(figure: Figure, x: float, y: float, width: float, height: float, **look: Any) -> None:
    """A rectangle, placed in inches by its lower left corner."""
    figure.add_artist(Rectangle((x, y), width, height, transform=figure.dpi_scale_trans, **look))


def save(figure: Figure, path: Path) -> Path:
    """Write the picture, and the folder it goes into; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return path
