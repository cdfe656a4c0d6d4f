"""Runs of one method, data set, skew and settings as one line: mean and spread over seeds, each selection apart."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from debias.tracking.folders import RunRecord
from debias.tracking.results.records import settings_of
from debias.tracking.results.roles import roles_of, told_of
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import SELECTIONS, TAINT


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for one value) and number of values, in percent."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class Line:
    """Finished runs that differ in their seed alone, the newest of each seed."""

    runs: tuple[RunRecord, ...]
    differs: str

    @property
    def method(self) -> str:
        return self.runs[0].method

    @property
    def skew(self) -> float:
        """Share of conflicting training images; 0 where it is not known."""
        return self.runs[0].conflicting or 0.0

    @property
    def augmentation(self) -> str:
        """The operators by which any of the runs changed its training images; empty where none did."""
        return ", ".join(dict.fromkeys(run.augmentation for run in self.runs if run.augmentation))

    @property
    def seeds(self) -> list[Any]:
        return [run.config.get("seed") for run in self.runs]

    def selections(self, figure: str) -> list[str]:
        """Those for which every run has the figure."""
        common = set.intersection(*(set(final_figures(run, figure)) for run in self.runs))
        return in_usual_order(common)

    def spread(self, figure: str, selection: str) -> Spread | None:
        """None when some run lacks the figure."""
        values = [final_figures(run, figure).get(selection) for run in self.runs]
        there = [value for value in values if value is not None]
        return Spread.of(there) if there and len(there) == len(values) else None


def final_figures(run: RunRecord, figure: str) -> dict[str, float]:
    """A figure by selection: of the final model (`conflicting`), on a further test (`conflicting@grey`), or a/b."""
    name, _, test = figure.partition("@")
    read_out = f"{run.final_read_out}@{test}" if test else run.final_read_out
    prefix = (figure if "/" in figure else f"{read_out}/{name}") + "/"
    return {name.removeprefix(prefix): value for name, value in run.summary.items() if name.startswith(prefix)}


def in_usual_order(selections: Set[str]) -> list[str]:
    """As in `SELECTIONS`, then those of an oracle teacher, then any others."""
    known = [*SELECTIONS, *(name + TAINT for name in SELECTIONS)]
    return [*(name for name in known if name in selections), *sorted(selections - set(known))]


def data_of(record: RunRecord) -> tuple[tuple[str, Any], ...]:
    """What makes the data, skew apart: settings, and the images and pretrained weights that a user brought, by their
    content.

    Runs in which any of it differs never share a table.
    """
    roles, about = roles_of(record), record.info.get("data", {})
    # Without features a run is what runs were before there were any.
    left = {"skew"} if record.config.get("features", "none") != "none" else {"skew", "features", "feature_views"}
    brought = [(name, about[name]) for name in ("folder", "content", "weights") if about.get(name) is not None]
    return tuple(brought) + tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(record.config.items())
        if name not in left and roles.get(name) == "data"
    )


def tables_of(
    records: Iterable[RunRecord],
    figure: str = "unbiased",
    published: Callable[[Line, str], Mapping[str, str]] = lambda line, figure: {},
) -> list[Table]:
    """A table for each way of making data: rows of method x skew x settings, a column for each selection.

    Parameters
    ----------
    records
        Any runs; only finished ones count.
    figure
        The figure, of the final model.
    published
        Gives the published figures of a line by the column they belong to.
    """
    made: dict[tuple[Any, ...], list[RunRecord]] = {}
    for record in records:
        if record.finished:
            made.setdefault(data_of(record), []).append(record)
    titles = _titles(made)
    tables = []
    for (_, runs), title in zip(made.items(), titles, strict=True):
        lines = lines_of(runs)
        # Without bias labels there is no other.
        shows = figure if figure != "unbiased" or any(line.selections(figure) for line in lines) else "average"
        shown = [(line, published(line, shows)) for line in lines]
        columns = in_usual_order({name for line in lines for name in line.selections(shows)})
        theirs = sorted({name for _, cells in shown for name in cells})
        settings = ["settings"] if any(line.differs for line in lines) else []
        # What was trained on changed images is never mistaken for what was not.
        marks = ["augmentation"] if any(line.augmentation for line in lines) else []
        rows = []
        for line, cells in shown:
            row = [line.method, *([line.differs or NOTHING] if settings else [])]
            row += [line.augmentation or NOTHING] if marks else []
            row.append(percent(line.runs[0].conflicting))
            spreads = [line.spread(shows, name) for name in columns]
            row += [NOTHING if spread is None else str(spread) for spread in spreads]
            rows.append([*row, str(len(line.runs)), *(cells.get(name, NOTHING) for name in theirs)])
        heads = [
            "method",
            *settings,
            *marks,
            "conflicting %",
            *(name.replace("_", " ") for name in columns),
            "n",
            *theirs,
        ]
        tables.append(
            Table(
                f"{title}: {shows} test accuracy, %", heads, rows, text_columns=("method", "settings", "augmentation")
            )
        )
    return tables


def lines_of(runs: Sequence[RunRecord]) -> list[Line]:
    """Finished runs on equally made data as lines, by method, then by skew from many conflicting images to few."""
    cells: dict[tuple[str, float], list[RunRecord]] = {}
    for run in runs:
        cells.setdefault((run.method, run.conflicting or 0.0), []).append(run)
    lines = []
    for (_, _), members in sorted(cells.items(), key=lambda item: (item[0][0], -item[0][1])):
        varying = _varying([settings_of(run) for run in members])
        groups: dict[str, dict[Any, RunRecord]] = {}
        for run in sorted(members, key=lambda run: run.started):
            settings = settings_of(run)
            differs = ", ".join(f"{name}={settings.get(name, NOTHING)}" for name in varying)
            groups.setdefault(differs, {})[run.config.get("seed")] = run
        for differs, seeds in groups.items():
            lines.append(Line(tuple(seeds[seed] for seed in sorted(seeds, key=str)), differs))
    return lines


def percent(share: float | None) -> str:
    """A share in percent, or a dash where it is not known."""
    return NOTHING if share is None else f"{100 * share:g}"


def unfinished(records: Sequence[RunRecord]) -> Table | None:
    """What is in no mean: failed, interrupted, killed, running and partial runs."""
    rows = []
    for record in records:
        # A search gave up on it as it was meant to: nothing is missing.
        if record.finished or record.status == "PRUNED":
            continue
        state = record.status.lower()
        if record.status == "COMPLETED":
            state = f"partial: {record.command} only" if record.command != "train" else "without figures"
        share = percent(record.conflicting)
        seed = str(record.config.get("seed"))
        rows.append([record.method, str(record.config["dataset"]), share, seed, state, str(record.folder)])
    columns = ["method", "data set", "conflicting %", "seed", "state", "kept in"]
    texts = ("method", "data set", "state", "kept in")
    return Table("Not in any mean", columns, rows, text_columns=texts) if rows else None


def _varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names with more than one value. A setting that older runs do not know divides only where the others differ."""
    names = dict.fromkeys(name for one in settings for name in one if name != "seed")
    varying = []
    for name in names:
        values = {repr(one[name]) for one in settings if name in one}
        if len(values) > 1:
            varying.append(name)
    return varying


def _titles(made: Mapping[tuple[tuple[str, Any], ...], Sequence[RunRecord]]) -> list[str]:
    """The data set, and of the settings that make it those that differ between tables or are not plainly off."""
    titles = []
    for data, runs in made.items():
        settings, told = dict(data), told_of(runs[0])
        others = [dict(other) for other in made if dict(other).get("dataset") == settings["dataset"]]
        shown = []
        for name, value in settings.items():
            divides = any(other.get(name) != value for other in others)
            if name == "weights":
                if any(
                    other.get("features") == settings.get("features") and other.get(name) != value for other in others
                ):
                    shown.append(f"weights {value[:8]}")
            elif name == "content":
                if divides and not any(other.get("folder") != settings.get("folder") for other in others):
                    shown.append(f"images {value[:8]}")
            elif name == "folder":
                shown.append(f"{value}/")
            elif name != "dataset" and (divides or (name in told and value not in (None, False))):
                shown.append(name if value is True else f"not {name}" if value is False else f"{name} {value}")
        titles.append(settings["dataset"] + (f" ({', '.join(shown)})" if shown else ""))
    return titles
