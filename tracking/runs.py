"""Run folders as records: what was run, how it ended, and its figures."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRecord:
    """One run of a store: its folder, status, settings and summary (figures in percent)."""

    folder: Path
    command: str
    status: str
    config: dict[str, Any]
    summary: dict[str, float]

    @property
    def method(self) -> str:
        """The recipe's name, or its stages."""
        method = self.config["method"]
        return method if isinstance(method, str) else " + ".join(method)


def read_runs(store: Path) -> Iterator[RunRecord]:
    """The runs of a store, oldest first. A folder that is no run, or whose files are damaged, is passed over."""
    numbers = sorted((int(path.name), path) for path in store.glob("[0-9]*") if path.name.isdigit())
    for _, folder in numbers:
        try:
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            info_file = folder / "info.json"
            info = json.loads(info_file.read_text(encoding="utf-8")) if info_file.exists() else {}
            if not {"dataset", "method"} <= config.keys():
                continue
            record = RunRecord(folder, run["command"], run["status"], config, info.get("summary", {}))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield record
