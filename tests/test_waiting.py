"""How threads wait is chosen before torch is loaded, unless the user has chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from debias import waiting

ROOT = Path(__file__).resolve().parent.parent
# The benchmarks that are started by name, not the modules they share.
BENCHMARKS = [path for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text("utf-8")]
ENTRIES = ["main", "sweep", "results", *(f"benchmarks.{path.stem}" for path in BENCHMARKS)]

# Stops when torch is about to be loaded; what has no need of it is imported to its end.
PROGRAM = """
import importlib, os, sys
def told():
    print(*(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")))
    sys.exit()
class Before:
    @staticmethod
    def find_spec(name, *rest):
        if name == "torch":
            told()
sys.meta_path.insert(0, Before)
importlib.import_module(sys.argv[1])
told()
"""


def told(module: str, **variables: str) -> list[str]:
    """OMP_WAIT_POLICY and GOMP_SPINCOUNT as torch finds them when a module is imported."""
    kept = {name: value for name, value in os.environ.items() if name not in waiting.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module],
        env=kept | variables, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize("module", [*ENTRIES, "debias.sweeps.engines.worker"])
def test_every_program_and_workers_elsewhere_have_chosen_before_torch_is_loaded(module: str) -> None:
    assert told(module) == ["None", waiting.POLICY["GOMP_SPINCOUNT"]]


def test_without_it_torch_finds_nothing_so_that_the_test_above_can_fail() -> None:
    assert told("torch") == ["None", "None"]


@pytest.mark.parametrize("given", [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "ACTIVE")], ids="=".join)
def test_a_choice_of_the_person_stays_and_nothing_is_added_to_it(given: tuple[str, str]) -> None:
    name, value = given
    assert told("main", **{name: value}) == [value if name == each else "None" for each in waiting.VARIABLES]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (waiting.POLICY, True),
        ({}, False),
        ({"GOMP_SPINCOUNT": "7"}, False),
        ({**waiting.POLICY, "OMP_WAIT_POLICY": "ACTIVE"}, False),
    ],
)
def test_ours_is_told_from_another(variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in waiting.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert waiting.ours() is expected
