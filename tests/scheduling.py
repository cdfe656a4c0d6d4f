"""Which tests share a process, and in which order they begin, when pytest has several (`-n 3`)."""

from collections import Counter
from typing import Any

import pytest

# A session's costly results are shared by the files of these folders; elsewhere by the tests of one file.
TOGETHER = ("tests/pretended/",)

# Seconds of the longest scopes on one core, where they say more than the number of tests that train: of processes that
# start and die, or of many settings. Only their order counts; a test fails when one of them is gone.
SECONDS = {
    "tests/sweeps/engines/test_on_ray.py": 150,
    "tests/sweeps/engines/test_engines.py": 110,
    "tests/sweeps/test_together.py": 100,
    "tests/sweeps/test_drive.py": 50,
    "tests/sweeps/searching/test_search.py": 50,
    "tests/test_readme_examples.py": 50,
    "tests/test_config.py": 40,
    "tests/test_quickstart.py": 35,
    "tests/test_gpu_call.py": 35,
    "tests/test_threads_benchmark.py": 25,
    "tests/test_cli.py": 20,
}
# Of a test that trains, on average.
TRAINING = 2.0


def scope_of(nodeid: str) -> str:
    """The scope of a test: tests of one scope run in one process, in order."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests in place: the longest scopes begin first, so that no process ends long after the others."""
    trainings = Counter(scope_of(item.nodeid) for item in items if item.get_closest_marker("recipe"))
    items.sort(key=lambda item: -max(SECONDS.get(name := scope_of(item.nodeid), 0), TRAINING * trainings[name]))


def scheduler(config: pytest.Config, log: Any) -> Any:
    """pytest-xdist's scheduler with these scopes, taken in the order in which they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)
