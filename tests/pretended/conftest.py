"""The cases of a session, each run once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline import empty_pictures
from tests.pretended.cases import CASES, Case, run_case
from tests.pretended.seen import Seen


@dataclass
class Ran:
    """A case that was run: exit statuses, what was seen, and where its stages are stored."""

    case: Case
    status: list[int]
    seen: Seen
    stages: Path


Run = Callable[..., Ran]


@pytest.fixture
def run(cache_dir: Path, tmp_path: Path) -> Run:
    """run(case, *words) runs a case in an empty folder."""

    def running(case: Case, *words: str) -> Ran:
        with empty_pictures():
            status, seen = run_case(case, tmp_path, cache_dir, *words)
        return Ran(case, status, seen, tmp_path / "runs" / "stages")

    return running


@pytest.fixture(scope="session")
def ran(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """ran(name, *words) is a case that has been run, once in a session; without words, cases share what they store."""
    shared = tmp_path_factory.mktemp("shared")
    found: dict[tuple[str, ...], Ran] = {}

    def running(name: str, *words: str) -> Ran:
        if (name, *words) not in found:
            case = CASES[name]
            folder = tmp_path_factory.mktemp("own") if words or case.starts_anew else shared
            with empty_pictures():
                status, seen = run_case(case, folder, cache_dir, *words)
            found[name, *words] = Ran(case, status, seen, folder / "runs" / "stages")
        return found[name, *words]

    return running
