#!/usr/bin/env bash
# Colored MNIST at severity 4: one run for every seed and skew. A run that fails does not stop the
# others; the failures are listed at the end and make the status 1. Ctrl-C stops immediately. Finished
# work is found again, so the same command continues where it was stopped.
#
#     scripts/coloredmnist.sh [SETTING...]    settings for every run, e.g. denetdm
#     SEEDS="1 2" SKEWS=skewed2 scripts/coloredmnist.sh denetdm
#
# SEEDS   default "1 2 3 4 5"
# SKEWS   default "skewed1 skewed2 skewed3 skewed4"
# PYTHON  the interpreter that .venv is made with (3.11 or newer)

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

read -ra seeds <<<"${SEEDS:-1 2 3 4 5}"
read -ra skews <<<"${SKEWS:-skewed1 skewed2 skewed3 skewed4}"

set_up requirements.txt
for skew in "${skews[@]}"; do
    for seed in "${seeds[@]}"; do run_one colored_mnist "$skew" severity4 "seed=$seed" "$@"; done
done
run_end
