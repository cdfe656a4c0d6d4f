"""The order in which tests begin where they run in several processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.scheduling import SECONDS, TOGETHER, longest_first, scope_of

ROOT = Path(__file__).resolve().parent.parent


def item(nodeid: str, trains: bool = False) -> Any:
    return SimpleNamespace(nodeid=nodeid, get_closest_marker=lambda name: "mark" if trains else None)


def test_scopes_that_are_named_are_there() -> None:
    assert not [name for name in (*SECONDS, *TOGETHER) if not (ROOT / name).exists()]


def test_the_longest_scopes_begin_first_and_stay_whole() -> None:
    ray = "tests/sweeps/engines/test_on_ray.py"
    tests = [
        item("tests/test_metrics.py::a"),
        *(item(f"tests/training/test_resume.py::{name}", True) for name in "abc"),
        item(f"{ray}::b"),
        item("tests/test_metrics.py::c", True),
        item(f"{ray}::a", True),
    ]
    longest_first(tests)
    assert [scope_of(test.nodeid) for test in tests] == [ray] * 2 + ["tests/training/test_resume.py"] * 3 + [
        "tests/test_metrics.py"
    ] * 2
    assert [test.nodeid[-1] for test in tests] == ["b", "a", "a", "b", "c", "a", "c"]
