"""What the newest run in a store has left in its folder, finished or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def stored_result(store: Path) -> float | None:
    """The result of the newest run, where it has one."""
    value = _read(store, "run.json").get("result")
    return value if isinstance(value, float) else None


def newest(store: Path) -> Path | None:
    """The folder of the newest run in a store."""
    runs = [path for path in store.iterdir() if path.name.isdigit()] if store.is_dir() else []
    return max(runs, key=lambda path: int(path.name), default=None)


def epochs_of(store: Path) -> dict[str, list[float]]:
    """Unbiased accuracy of every epoch of the newest run, and its seconds, by name; as far as they are recorded."""
    metrics = _read(store, "metrics.json")
    kept = {name: metric for name, metric in metrics.items() if name.endswith(("/unbiased", "/seconds"))}
    return {name: [round(value, 2) for value in metric["values"]] for name, metric in kept.items()}


def figures_of(store: Path) -> dict[str, Any]:
    """The summary of the newest run: unbiased accuracy by read-out and selection."""
    summary = _read(store, "info.json").get("summary", {})
    return {name: round(value, 2) for name, value in summary.items() if "/unbiased/" in name}


def _read(store: Path, name: str) -> dict[str, Any]:
    """A file of the newest run; empty when there is none yet, or it is being written."""
    run = newest(store)
    try:
        content = json.loads((run / name).read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
