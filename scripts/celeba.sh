#!/usr/bin/env bash
# CelebA, blond or not: one run for every seed. A run that fails does not stop the others; the failures are listed
# at the end and make the status 1. Ctrl-C stops immediately. Finished work is found again, so the same
# command continues where it was stopped. The files are looked for in data_dir or DATA_DIR.
#
#     scripts/celeba.sh [SETTING...]    settings for every run, e.g. dcwp data_dir=FOLDER
#     SEEDS="11 22 33 44" scripts/celeba.sh dcwp
#
# SEEDS   default "1 2 3 4 5"
# PYTHON  the interpreter that .venv is made with (3.11 or newer)

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up requirements.txt
run_seeds celeba "$@"
