"""Which tests share a process, and in which order they begin, when pytest has several (`-n 2`)."""

from collections import Counter
from typing import Any

import pytest

# A session's costly results are shared by the files of these folders; elsewhere by the tests of one file.
TOGETHER = ("tests/pretended/",)


def scope_of(nodeid: str) -> str:
    """The scope of a test: tests of one scope run in one process, in order."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests in place: scopes that train the most begin first, so that no process ends long after the others."""
    trainings = Counter(scope_of(item.nodeid) for item in items if item.get_closest_marker("recipe"))
    items.sort(key=lambda item: -trainings[scope_of(item.nodeid)])


def scheduler(config: pytest.Config, log: Any) -> Any:
    """pytest-xdist's scheduler with these scopes, taken in the order in which they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)
