#!/usr/bin/env bash
# Everything that must hold before a commit: style, types, tests.
#
#     scripts/test.sh [PYTEST ARGUMENT...]    e.g. scripts/test.sh -k losses, or -n 0 for one process of tests, not three
#
# DATA_DIR  folder of the real MNIST files, for the tests that need them
# PYTHON    the interpreter that .venv is made with (3.11 or newer)

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up requirements.txt requirements-test.txt
# Tests start some two hundred processes; without bytecode each compiles the project again.
unset PYTHONDONTWRITEBYTECODE

# mypy stops at a name that is missing or a folder without Python files.
typed=()
for name in *.py debias benchmarks scripts; do
    if [[ -n "$(find "$name" -name '*.py' -print -quit 2>/dev/null)" ]]; then typed+=("$name"); fi
done

say "ruff check"
python -m ruff check --quiet .
say "ruff format --check"
python -m ruff format --check --quiet .
say "mypy ${typed[*]}"
python -m mypy --no-error-summary --explicit-package-bases "${typed[@]}"
# One process more than two cores: some tests wait for others they have started, or for the clock.
say "pytest -n 3 $*"
python -m pytest -n 3 "$@"
