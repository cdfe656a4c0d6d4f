"""The record of a call as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.record import Record

Entry = Mapping[str, Any]


def render(record: Record) -> str:
    """A section for each phase in the order in which they came, with the newest row of each case."""
    newest: dict[tuple[str, str | None], Entry] = {}
    for row in record.rows():
        key = (row["phase"], row.get("case"))
        # What is done stays done, whatever a later call that was cut says of it.
        if row.get("done") or not newest.get(key, {}).get("done"):
            newest[key] = row
    lines: list[str] = []
    for phase in dict.fromkeys(phase for phase, _ in newest):
        rows = {case: row for (of, case), row in newest.items() if of == phase and case is not None}
        lines += [f"### {phase}", "", _state(newest.get((phase, None))), ""]
        if phase == "table1":
            lines += _means(rows.values())
        if rows:
            lines += ["| case | figures |", "| --- | --- |"]
            # Of table 1 the means are what is wanted; each run is in the record.
            shown = {case: row for case, row in rows.items() if "skew" not in row or not row.get("done")}
            lines += [f"| {_cell(case)} | {_cell(_figures(row))} |" for case, row in shown.items()]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n" if lines else "nothing has been measured yet\n"


def _means(rows: Iterable[Entry]) -> list[str]:
    """The mean and the standard deviation over seeds of a stage's own figures, a line for each skew."""
    groups: dict[tuple[str, float], list[Entry]] = {}
    for row in rows:
        if "skew" in row and row.get("done"):
            groups.setdefault((row["stage"], row["skew"]), []).append(row["figures"])
    lines = []
    for (stage, skew), seeds in groups.items():
        own = [name for name in seeds[0] if stage != "distill" or name.startswith("target/")]
        lines += [f"| {stage} | {100 * skew:g} | {name} | {_spread([r[name] for r in seeds])} |" for name in own]
    return ["| stage | conflicting % | figure | mean ± std (n) |", "| --- | ---: | --- | ---: |", *lines, ""]


def _spread(values: Sequence[float]) -> str:
    spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "–"
    return f"{statistics.mean(values):.2f} ± {spread} ({len(values)})"


def _state(row: Entry | None) -> str:
    if row is None:
        return "cut before its end"
    if row.get("done"):
        return f"done in {row['seconds']} s"
    return f"not done: {row.get('skipped') or row.get('status')}"


def _figures(row: Entry) -> str:
    hidden = {"phase", "case", "done", "at", "took", "going_on", "stage", "skew", "seed", "epochs"}
    found = [f"{name} {_value(value)}" for name, value in row.items() if name not in hidden and value is not None]
    if not row.get("done"):
        found.insert(0, "not done")
        found += [
            f"{name} {values[-1]} after {len(values)} epochs"
            for name, values in row.get("epochs", {}).items()
            if values and name.endswith("/unbiased")
        ]
    return ", ".join(found)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        on = [name for name, inner in value.items() if inner is True]
        told = [f"{name} {_value(inner)}" for name, inner in value.items() if not isinstance(inner, bool)]
        return f"({', '.join(on + told) or 'nothing on'})"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.split()).replace("|", "\\|")
