"""Runs as rows of a CSV file that can be committed: settings, figures, and where they were measured."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.rawfiles import read_text, replaced_whole
from debias.tracking.folders import RunRecord
from debias.tracking.results.roles import roles_of

# Columns of a run itself; those with a slash are figures, all others settings.
ABOUT = ("run", "started", "status", "command", "device")
# What a record says beside: the read-out that is the final model, and of the data; older files lack them.
FACTS = ("final", "conflicting", "content", "folder", "weights", "augmentation")


def settings_of(record: RunRecord) -> dict[str, Any]:
    """The settings that decide a run's figures, by dotted name: those of the run and of the stages it went through."""
    stages = set(record.info.get("stages", {})) or {n for n, v in record.config.items() if isinstance(v, Mapping)}
    roles, settings = roles_of(record), dict[str, Any]()
    for name, value in record.config.items():
        if isinstance(value, Mapping):
            settings |= {f"{name}.{own}": setting for own, setting in value.items()} if name in stages else {}
        elif name in roles:
            settings[name] = value
    return settings


def write_records(records: Iterable[RunRecord], path: Path) -> int:
    """Add runs to a CSV file, replacing rows of the same runs; returns the number of rows it has then.

    Raises
    ------
    UserError
        When the file cannot be written, or is there and is no such file.
    """
    kept = _read_rows(path) if path.exists() else []
    # Rows carried over from before runs were recorded have no name; each stays.
    rows = {row["run"] or str(number): row for number, row in enumerate(kept)}
    for record in records:
        rows[record.uid] = _row(record)
    names = list(dict.fromkeys(name for row in rows.values() for name in row if row[name] != ""))
    settings = [name for name in names if "/" not in name and name not in (*ABOUT, *FACTS)]
    figures = [name for name in names if "/" in name]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(
                handle,
                [*ABOUT, *(name for name in FACTS if name in names), *settings, *figures],
                restval="",
                extrasaction="ignore",
                lineterminator="\n",
            )
            writer.writeheader()
            writer.writerows(rows.values())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return len(rows)


def read_records(path: Path) -> Iterator[RunRecord]:
    """The runs of a CSV file, in its order; of a folder, those of each CSV file in it that is a record of runs."""
    if path.is_dir():
        for each in sorted(path.glob("*.csv")):
            if set(ABOUT) <= set(_head(each)):
                yield from read_records(each)
        return
    for number, row in enumerate(_read_rows(path), start=2):
        try:
            config: dict[str, Any] = {}
            for name, text in row.items():
                if name in (*ABOUT, *FACTS) or "/" in name or text == "":
                    continue
                group, _, own = name.rpartition(".")
                (config.setdefault(group, {}) if group else config)[own] = _parse(text)
            figures = {name: float(text) for name, text in row.items() if "/" in name and text != ""}
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        if not {"dataset", "method"} <= config.keys() or not isinstance(config["dataset"], str):
            raise UserError(f"{path}, line {number}: a run has at least the columns dataset and method")
        yield RunRecord(
            path / str(number),
            row["command"],
            row["status"],
            config,
            figures,
            uid=row["run"],
            started=row["started"],
            device=row["device"],
            info=_info_of(row),
        )


def _row(record: RunRecord) -> dict[str, str]:
    about = (record.uid, record.started, record.status, record.command, record.device)
    row = dict(zip(ABOUT, about, strict=True)) | {"final": record.final_read_out}
    row |= {name: _text(value) for name, value in record.info.get("data", {}).items() if name in FACTS}
    row |= {"augmentation": record.augmentation} if record.augmentation else {}
    row |= {name: _text(value) for name, value in settings_of(record).items()}
    return row | {name: f"{value:.4f}" for name, value in record.summary.items()}


def _info_of(row: Mapping[str, str]) -> dict[str, Any]:
    info: dict[str, Any] = {}
    if row.get("final"):
        info["final"] = {"read_out": row["final"]}
    if row.get("augmentation"):
        info["augmentation"] = row["augmentation"]
    if row.get("conflicting"):
        info["data"] = {name: row[name] for name in ("content", "folder", "weights") if row.get(name)}
        info["data"]["conflicting"] = _parse(row["conflicting"])
    return info


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, f"{path}:")), restval="")
        missing = set(ABOUT) - set(reader.fieldnames or ())
        if missing:
            raise UserError(f"{path}: no record of runs, as it has no column {', '.join(sorted(missing))}")
        return [{name: text for name, text in row.items() if name is not None} for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def _head(path: Path) -> list[str]:
    """Names of a CSV file's columns; none where it is no such file."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return next(csv.reader(handle), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
