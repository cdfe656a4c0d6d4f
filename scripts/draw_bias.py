"""What aligned and conflicting images are, as a picture: `python -m scripts.draw_bias docs/bias.png`.

Embedded digits, so nothing is downloaded; the same picture wherever it is drawn.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from debias.data.generated.colored import build_arrays
from debias.data.sources.digits import digits
from debias.tracking.pictures import canvas

SKEW, SEVERITY, SEED = 0.2, 4, 1
ENLARGED, GAP, LABEL = 2, 6, 300  # times; pixels between images; pixels left of them
ROWS = (
    ("aligned", "99 % of the training images"),
    ("conflicting", "1 % of the training images"),
    ("test images", "every colour equally often"),
)
# Which colour a digit is shown in: its own, never its own, and its own for two of the ten as chance would have it.
PARTS: tuple[tuple[str, Callable[[int], int]], ...] = (
    ("train", lambda digit: digit),
    ("train", lambda digit: (7 * digit + 5) % 10),
    ("test", lambda digit: (3 * digit + 2) % 10),
)


def main(arguments: Sequence[str]) -> int:
    """Draw one digit of each class in its class's colour, one in another colour, and one as the test images are."""
    parser = argparse.ArgumentParser(prog="python -m scripts.draw_bias", description=main.__doc__)
    parser.add_argument("path", type=Path, metavar="FILE.png")
    parser.add_argument("--cache-dir", default=".cache")
    options = parser.parse_args(arguments)
    print(draw(chosen(options.cache_dir), options.path))
    return 0


def chosen(cache_dir: str | Path) -> list[NDArray[np.uint8]]:
    """For each row of the picture uint8 [10, 3, H, W], an image of each class.

    The share of conflicting images is larger than the picture says, so that a small set has one of every class.
    """
    arrays = build_arrays(digits(cache_dir, n_train=1000, n_test=500), SKEW, SEVERITY, SEED, "blocks")
    rows = []
    for (part, colour_of), place in zip(PARTS, (0, 0, 2), strict=True):
        images, target, bias = (np.asarray(arrays[f"{part}_{name}"]) for name in ("images", "target", "bias"))
        fitting = [np.flatnonzero((target == digit) & (bias == colour_of(digit))) for digit in range(10)]
        rows.append(images[[places[place % len(places)] for places in fitting]])
    return rows


def draw(rows: Sequence[NDArray[np.uint8]], path: Path) -> Path:
    """Draw the rows of images with what each is on its left; returns `path`."""
    side = ENLARGED * rows[0].shape[-1]
    width = LABEL + 10 * (side + GAP) + GAP
    height = len(rows) * (side + GAP) + GAP
    with mpl.rc_context(canvas.STYLE):
        figure = Figure(figsize=(width / canvas.DPI, height / canvas.DPI), dpi=canvas.DPI, facecolor="white")
        for number, (images, (name, what)) in enumerate(zip(rows, ROWS, strict=True)):
            bottom = height - (number + 1) * (side + GAP)
            for digit, image in enumerate(images):
                tile = image.transpose(1, 2, 0).repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
                figure.figimage(tile, LABEL + digit * (side + GAP), bottom, origin="upper")
            middle = (bottom + side / 2) / canvas.DPI
            canvas.write(figure, 0.07, middle + 0.03, name, fontweight="bold")
            canvas.write(figure, 0.07, middle - 0.14, what, fontsize=8, color=canvas.GREY)
        return canvas.save(figure, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
