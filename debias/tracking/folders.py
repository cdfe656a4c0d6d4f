"""Runs as records, wherever they are kept: what was run, how it ended, and its figures. Imports nothing heavy."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from debias.digests import digest_of
from debias.rawfiles import read_regular
from debias.vocabulary import FIGURES, FINAL_READ_OUTS

# A living run reports every ten seconds.
SILENT_SECONDS = 120


@dataclass(frozen=True)
class RunRecord:
    """One run: where it is kept, command, status, settings and summary (figures in percent).

    `folder` is its run folder, or a path that only names where it is kept (a database, a line of a CSV file). `uid` is
    the same wherever a run is kept; `started` is in UTC, as in 2026-01-31T12:00:00.
    """

    folder: Path
    command: str
    status: str
    config: dict[str, Any]
    summary: dict[str, float]
    uid: str = ""
    started: str = ""
    device: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The recipe's name, or its stages."""
        method = self.config["method"]
        return method if isinstance(method, str) else " + ".join(method)

    @property
    def finished(self) -> bool:
        """Whether a whole recipe was trained to its end and has figures; nothing else may enter a mean."""
        return self.status == "COMPLETED" and self.command == "train" and bool(self.final_read_out)

    @property
    def final_read_out(self) -> str:
        """The read-out that is the final model, as the record says; empty when the run has no figure of one."""
        said = self.info.get("final")
        if not said:
            return likely_read_out(self.summary)
        return str(said["read_out"]) if _has(self.summary, said["read_out"]) else ""

    @property
    def augmentation(self) -> str:
        """The operators that training images were changed by; empty for a run that changed none."""
        return str(self.info.get("augmentation") or "")

    @property
    def result(self) -> float | None:
        """The run's figure, in percent (`main_figure`)."""
        return main_figure(self.summary, self.final_read_out)

    @property
    def conflicting(self) -> float | None:
        """Share of conflicting training images, as the record says; None where it is not known."""
        if "data" in self.info:
            share = self.info["data"].get("conflicting")
            return None if share is None else float(share)
        # Older records do not say; in them `skew` stood for data sets that never read it, too.
        skew = self.config.get("skew")
        fixed = self.config.get("dataset") in ("own_images", "bar")
        return float(skew) if isinstance(skew, int | float) and not fixed else None


def likely_read_out(summary: Mapping[str, float]) -> str:
    """The final model's read-out where nothing says which it is (older records, weights alone); empty if none is."""
    return next((name for name in FINAL_READ_OUTS if _has(summary, name)), "")


def _has(summary: Mapping[str, float], read_out: str) -> bool:
    return any(name.startswith(f"{read_out}/{figure}/") for name in summary for figure in FIGURES)


def main_figure(summary: Mapping[str, float], read_out: str) -> float | None:
    """A read-out's unbiased accuracy at the last epoch, in percent; without bias labels its accuracy.

    Of a run that has no such selection, such as an evaluation, the only one; None when it has no figure at all.
    """
    for figure in ("unbiased", "average"):
        prefix = f"{read_out}/{figure}/"
        own = {name.removeprefix(prefix): value for name, value in summary.items() if name.startswith(prefix)}
        if own:
            return next((value for name, value in own.items() if name.startswith("last")), next(iter(own.values())))
    return None


def read_runs(store: Path, damaged: list[Path] | None = None) -> Iterator[RunRecord]:
    """The runs of a store, oldest first. A folder that is not a run, or whose files are damaged, is skipped.

    damaged : takes the folders whose files are there, and cannot be read as a run's
    """
    numbers = sorted((int(path.name), path) for path in store.glob("[0-9]*") if is_run_name(path.name))
    for _, folder in numbers:
        try:
            run, config = read_json(folder / "run.json"), read_json(folder / "config.json")
            info = read_json(folder / "info.json") if (folder / "info.json").exists() else {}
            record = make_record(folder, run, config, info)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            if damaged is not None:
                damaged.append(folder)
            continue
        if record is not None:
            yield record


def is_run_name(name: str) -> bool:
    """Whether a folder's name is the number of a run; 1² is none."""
    return name.isascii() and name.isdecimal() and len(name) < 19


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds.

    Raises
    ------
    OSError, ValueError
        It cannot be read, is not a regular file, or no JSON of a sane depth.
    """
    try:
        return json.loads(read_regular(path).decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is too deep") from None


def make_record(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], info: Mapping[str, Any]
) -> RunRecord | None:
    """A record of what Sacred writes about a run; None when it is a run of something else.

    Raises KeyError, TypeError, AttributeError or ValueError for what is not a record at all.
    """
    if not {"dataset", "method"} <= config.keys():
        return None
    _check_form(config, info)
    return RunRecord(
        folder,
        run["command"],
        _status(run),
        dict(config),
        {name: float(value) for name, value in info.get("summary", {}).items() if isinstance(value, int | float)},
        uid=run_uid(run),
        started=_time(run.get("start_time")),
        device=str(info.get("device", "")),
        info=info,
    )


def _check_form(config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Raise ValueError for what no run writes into its record: who reads it must not have to look at each value."""
    method, data, final = config["method"], info.get("data", {}), info.get("final") or {"read_out": ""}
    said, numbers = info.get("settings", {}), (int, float, type(None))
    right = isinstance(config["dataset"], str) and (isinstance(method, str) or _are_texts(method)) and method
    right = right and all(map(_is_setting, config.values())) and not isinstance(config.get("seed"), list | Mapping)
    right = right and isinstance(final, Mapping) and isinstance(final["read_out"], str)
    right = right and isinstance(data, Mapping) and isinstance(data.get("conflicting"), numbers)
    right = right and all(isinstance(data.get(name, ""), str | None) for name in ("content", "folder", "weights"))
    right = right and isinstance(said, Mapping) and all(map(_are_texts, said.values()))
    if not right or not isinstance(info.get("stages", {}), Mapping):
        raise ValueError("not the record of a run")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_setting(value: Any) -> bool:
    """A value or a list of values, or a group of settings."""
    if isinstance(value, Mapping):
        return all(map(_is_setting, value.values()))
    values = value if isinstance(value, list) else [value]
    return not any(isinstance(one, list | Mapping) for one in values)


def run_uid(run: Mapping[str, Any]) -> str:
    """What names a run in every place it is kept: drawn when it started or, in older records, its host and start."""
    given = (run.get("meta") or {}).get("uid")
    if given:
        return str(given)
    host = (run.get("host") or {}).get("hostname", "")
    return digest_of([f"{host} {_time(run.get('start_time'))}".encode()])[:16]


def _status(run: Mapping[str, Any]) -> str:
    """Sacred's word, but KILLED for a run that says it is running and has not been heard of for two minutes."""
    status = str(run["status"])
    heard = run.get("heartbeat") or run.get("start_time")
    if status != "RUNNING" or not heard:
        return status
    moment = heard if isinstance(heard, datetime) else datetime.fromisoformat(str(heard))
    silent = datetime.now(UTC) - moment.replace(tzinfo=UTC)
    return "KILLED" if silent.total_seconds() > SILENT_SECONDS else status


def _time(moment: Any) -> str:
    """To the millisecond, which is what a database keeps."""
    if not moment:
        return ""
    if not isinstance(moment, datetime):
        moment = datetime.fromisoformat(str(moment))
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
