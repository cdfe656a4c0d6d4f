"""Records of runs without running anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debias.tracking.folders import RunRecord


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., RunRecord]:
    """record("erm", 50.0, seed=2) is a finished run with that unbiased accuracy at the last epoch."""
    made = 0

    def make(
        method: str | list[str] = "erm", unbiased: float | None = None, *, read_out: str = "model", **also: Any
    ) -> RunRecord:
        nonlocal made
        made += 1
        own = {
            name: also.pop(name) for name in ("command", "status", "summary", "started", "uid", "info") if name in also
        }
        config = {"dataset": "colored_mnist", "method": method, "skew": 0.01, "severity": 4, "seed": 1, **also}
        summary = own.pop("summary", {} if unbiased is None else {f"{read_out}/unbiased/last": unbiased})
        own = {"command": "train", "status": "COMPLETED", "started": f"2026-01-01T00:00:{made:02}", **own}
        return RunRecord(
            tmp_path / str(made), own.pop("command"), own.pop("status"), config, summary, **{"uid": f"u{made}", **own}
        )

    return make
