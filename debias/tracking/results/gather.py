"""Runs from every place they are kept, each once, and the filters that choose among them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.settings import nearest
from debias.tracking.folders import RunRecord, read_runs
from debias.tracking.results.records import read_records

# Of a run itself, beside its settings.
_OWN = ("status", "command", "method", "run", "started", "device")
_FILTER = re.compile(r"([\w.]+)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)


def gather(
    stores: Sequence[Path],
    records: Sequence[Path],
    others: Iterable[RunRecord] = (),
    damaged: list[Path] | None = None,
) -> list[RunRecord]:
    """Runs of folders, CSV records and `others` (a database), the oldest first; of copies of a run the first counts.

    damaged : as of `read_runs`
    """
    found: dict[str, RunRecord] = {}

    def every() -> Iterator[RunRecord]:
        for store in stores:
            yield from read_runs(store, damaged)
        for path in records:
            yield from read_records(path)
        yield from others

    for number, record in enumerate(every()):
        found.setdefault(record.uid or str(number), record)
    return sorted(found.values(), key=lambda record: record.started)


@dataclass(frozen=True)
class Filter:
    """A condition such as skew<=0.02, method=erm,lff or pretrain.epochs=100."""

    name: str
    sign: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """From one word of the command line."""
        match = _FILTER.fullmatch(text)
        if match is None:
            raise UserError(f"filter {text!r}: write NAME=VALUE, as in method=erm,lff or skew<=0.02")
        name, sign, value = match.groups()
        values = (value,) if value.startswith("[") else tuple(part.strip() for part in value.split(","))
        if sign[0] in "<>" and _number(values[0]) is None:
            raise UserError(f"filter {text!r}: {sign} compares with a number")
        return cls(name, sign, values)

    def holds(self, record: RunRecord) -> bool:
        """Whether a record passes; one without the setting passes only `!=`."""
        has = values_of(record)
        if self.name not in has:
            return self.sign == "!="
        value = has[self.name]
        if self.sign[0] in "<>":
            left, right = _number(str(value)), _number(self.values[0])
            if left is None or right is None:
                return False
            return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[self.sign]
        return any(_same(value, wanted) for wanted in self.values) == (self.sign == "=")


def choose(records: Sequence[RunRecord], filters: Sequence[Filter]) -> list[RunRecord]:
    """The records that pass every filter.

    Raises
    ------
    UserError
        A name that no record has.
    """
    known = set(_OWN).union(*(values_of(record) for record in records))
    for condition in filters:
        if records and condition.name not in known:
            raise UserError(f"filter: no run has a setting {condition.name!r}{nearest(condition.name, known)}")
    return [record for record in records if all(condition.holds(record) for condition in filters)]


def values_of(record: RunRecord) -> dict[str, Any]:
    """Settings by dotted name, and what a run is beside them."""
    own = {
        "status": record.status,
        "command": record.command,
        "run": record.folder.name,
        "started": record.started,
        "device": record.device,
    }
    return own | flatten(record.config) | {"method": record.method}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _same(value: Any, wanted: str) -> bool:
    left, right = _number(str(value)), _number(wanted)
    if left is not None and right is not None:
        return left == right
    if isinstance(value, list):
        return [part.strip().strip("'\"") for part in wanted.strip("[]").split(",")] == value
    return str(value).casefold() == wanted.casefold()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
