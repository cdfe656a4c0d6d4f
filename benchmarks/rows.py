"""Rows of the benchmarks' CSV files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def append(record: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Add rows to a record, and the heads to a new one."""
    fresh = not record.exists()
    with record.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A file of these rows alone, whose columns are those of the first."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
