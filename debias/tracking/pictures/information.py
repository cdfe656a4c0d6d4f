"""Pictures of the Fisher information of every modality: by epoch, and its share in the first and the last epoch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from debias.metrics import shares
from debias.tracking.pictures.plots import COLOURS, DPI, plot_curves

PREFIX = "information/"


def plot_information(folder: Path, stage: str, history: Sequence[Mapping[str, float]]) -> Iterator[Path]:
    """Draw and yield three pictures; none where the history of a stage has no information.

    The share of a modality is its information over that of all (`metrics.shares`), of the epoch's means.
    """
    names = [name for name in history[-1] if name.startswith(PREFIX)]
    if not names:
        return
    epochs = [row["epoch"] for row in history]
    labels = [name.removeprefix(PREFIX) for name in names]
    amounts = [[row[name] for name in names] for row in history]
    parts = [[100 * share for share in shares(amount)] for amount in amounts]
    for values, what, unit in ((amounts, "information", "information"), (parts, "information-share", "%")):
        series = {label: [(e, row[k]) for e, row in zip(epochs, values, strict=True)] for k, label in enumerate(labels)}
        title = f"{stage}: functional Fisher {what.replace('-', ', ')} by modality"
        yield plot_curves(series, title=title, ylabel=unit, path=folder / f"{stage}-{what}.png")
    yield _bars(labels, parts[0], parts[-1], stage, folder / f"{stage}-information-first-last.png")


def _bars(labels: Sequence[str], first: Sequence[float], last: Sequence[float], stage: str, path: Path) -> Path:
    figure = Figure(figsize=(6, 3.4), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for offset, values, when, colour in (
        (-0.2, first, "first epoch", COLOURS[5]),
        (0.2, last, "last epoch", COLOURS[0]),
    ):
        bars = axes.bar([place + offset for place in range(len(labels))], values, 0.38, label=when, color=colour)
        axes.bar_label(bars, fmt="%.1f", fontsize=9)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylim=(0, 112), ylabel="share of the information, %")
    axes.set_title(f"{stage}: share of the functional Fisher information", loc="left", fontsize=12, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path)
    return path
