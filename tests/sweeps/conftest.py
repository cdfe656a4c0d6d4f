"""What tests of sweeps share."""

from pathlib import Path

import pytest

from debias import main as program
from debias.sweeps.drive import run_sweep
from debias.sweeps.engines.here import Here
from debias.sweeps.plan import Plan, words_plan
from tests.pipeline import empty_pictures
from tests.sweeps.small import SMALL


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Plan:
    """The small sweep, finished in this process: what every engine has to come to."""
    store = tmp_path_factory.mktemp("reference")
    plan = words_plan(program.build(), [*SMALL, f"store={store}", f"cache_dir={cache_dir}"])
    with empty_pictures():
        run_sweep(plan, Here(), lambda line: None)
    return plan
