"""A small search, and the file of one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sweeps.small import SEARCH


@pytest.fixture
def words(tmp_path: Path, cache_dir: Path) -> list[str]:
    """Of a trial, in a store of the test's own."""
    return [*SEARCH, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


@pytest.fixture
def write_file(tmp_path: Path, words: list[str]) -> Callable[..., Path]:
    """write_file(part `search`, further words) -> the file."""

    def write_file(given: Mapping[str, Any], *also: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"with": [*words, *also], "search": given}))
        return path

    return write_file
