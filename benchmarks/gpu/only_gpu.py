"""A plugin of pytest that keeps the tests that need a GPU, by their names and by why they are skipped elsewhere.

    python -m pytest -p benchmarks.gpu.only_gpu tests/training/test_sync.py

How many passed, failed and were skipped goes into the file that the variable GPU_TEST_COUNTS names, where it is set.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

COUNTS = "GPU_TEST_COUNTS"
_counts: Counter[str] = Counter(tests_passed=0, tests_failed=0, tests_skipped=0)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    items[:] = [item for item in items if _wanted(item)]


def _wanted(item: Any) -> bool:
    why = " ".join(str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skipif"))
    return any(word in f"{item.name} {why}".lower() for word in ("cuda", "gpu"))


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _counts[f"tests_{report.outcome}"] += 1


def pytest_sessionfinish(session: Any, exitstatus: int) -> None:
    if path := os.environ.get(COUNTS):
        Path(path).write_text(json.dumps(_counts), encoding="utf-8")
