"""Pictures of a search: how it went, and what mattered."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from debias.sweeps.searching.trials import finished, given_up, goes_by_test_set, importances, objective_name
from debias.tracking.pictures import canvas
from debias.tracking.pictures.canvas import DPI, GREY, INK, LIGHT, MARGIN, OUTLINE, SMALL, STYLE, WIDTH

BLUE = "#0072B2"


def draw(study: Any, name: str, folder: Path) -> list[Path]:
    """History and importances as PNG; neither of a search without finished trials."""
    if not finished(study):
        return []
    paths = [_history(study, name, folder / f"{name}-history.png")]
    if importances(study):
        paths.append(_importance(study, name, folder / f"{name}-importance.png"))
    return paths


def _subtitle(study: Any) -> str:
    return f"{objective_name(study)}, %" + (", chosen on the test set (oracle)" if goes_by_test_set(study) else "")


def _history(study: Any, name: str, path: Path) -> Path:
    """Each trial's value by its number, the best so far as a line, trials that were pruned as crosses."""
    done, dropped = finished(study), [trial for trial in given_up(study) if trial.value is not None]
    best, line = float("-inf"), []
    for trial in done:
        best = max(best, trial.value)
        line.append((trial.number + 1, best))
    last = max(trial.number + 1 for trial in (*done, *dropped))
    line.append((last, best))
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.step(*zip(*line, strict=True), where="post", color=BLUE, linewidth=1.6)
        looks: Any = {"s": 26, "zorder": 3, "linewidths": 1.2}
        axes.scatter([t.number + 1 for t in done], [t.value for t in done], color=BLUE, marker="o", **looks)
        axes.scatter([t.number + 1 for t in dropped], [t.value for t in dropped], color=OUTLINE, marker="x", **looks)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.grid(True, color=LIGHT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("trial", fontsize=SMALL, color=GREY)
        bottom, tall = MARGIN + 0.58, 2.9
        height = canvas.start(figure, WIDTH, bottom + tall, f"{name}: how the search went", _subtitle(study))
        left = MARGIN + 0.5
        axes.set_position((left / WIDTH, bottom / height, 1 - (left + MARGIN) / WIDTH, tall / height))
        canvas.write(figure, left, MARGIN - 0.03, "● finished; line: the best so far", color=BLUE)
        if dropped:
            canvas.write(figure, WIDTH - MARGIN, MARGIN - 0.03, "× pruned, at this value", color=OUTLINE, ha="right")
        return canvas.save(figure, path)


def _importance(study: Any, name: str, path: Path) -> Path:
    """A bar for each setting."""
    shares = importances(study)
    names = {setting: canvas.fit(setting, 2.8) for setting in shares}
    wide = max(map(canvas.measure, names.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(dpi=DPI, facecolor="white")
        step = 0.3
        canvas.start(
            figure,
            WIDTH,
            MARGIN + step * len(shares),
            f"{name}: what mattered",
            "share of the variance of finished trials, % (fANOVA)",
        )
        room = WIDTH - 2 * MARGIN - wide - 0.6
        for row, (setting, share) in enumerate(reversed(shares.items())):
            y = MARGIN + step * row
            canvas.write(figure, MARGIN + wide, y + step / 2, names[setting], ha="right", va="center_baseline")
            canvas.box(
                figure, MARGIN + wide + 0.1, y + 0.05, room * share, step - 0.1, facecolor=BLUE, edgecolor="none"
            )
            end = MARGIN + wide + 0.17 + room * share
            canvas.write(figure, end, y + step / 2, f"{100 * share:.0f}", va="center_baseline", color=GREY)
        return canvas.save(figure, path)
