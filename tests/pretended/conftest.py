"""The cases of a session, each run once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

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


@contextmanager
def _empty_pictures() -> Iterator[None]:
    """Pictures that are stored inside are empty; other tests of the session have theirs."""
    draw = FigureCanvasAgg.print_png

    @wraps(draw)  # matplotlib looks at what it takes
    def print_png(canvas: Any, target: Any, *args: Any, **options: Any) -> None:
        if isinstance(target, str | Path):
            Path(target).write_bytes(b"")
        else:
            draw(canvas, target, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", print_png)
        yield


@pytest.fixture
def run(cache_dir: Path, tmp_path: Path) -> Run:
    """run(case, *words) runs a case in an empty folder."""

    def running(case: Case, *words: str) -> Ran:
        with _empty_pictures():
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
            with _empty_pictures():
                status, seen = run_case(case, folder, cache_dir, *words)
            found[name, *words] = Ran(case, status, seen, folder / "runs" / "stages")
        return found[name, *words]

    return running
