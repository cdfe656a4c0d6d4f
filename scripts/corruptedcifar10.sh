#!/usr/bin/env bash
# Corrupted CIFAR-10 at severity 4: one run for every type, skew and seed. A run that fails does not
# stop the others; the failures are listed at the end and make the status 1. Ctrl-C stops immediately.
# Finished work is found again, so the same command continues where it was stopped.
#
#     scripts/corruptedcifar10.sh [SETTING...]    settings for every run, e.g. denetdm
#     TYPES=type1 SEEDS="11 22" SKEWS=skewed3 scripts/corruptedcifar10.sh dcwp
#
# TYPES   default "type0 type1"
# SEEDS   default "1 2 3 4 5"
# SKEWS   default "skewed1 skewed2 skewed3 skewed4"
# PYTHON  the interpreter that .venv is made with (3.11 or newer)

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

read -ra types <<<"${TYPES:-type0 type1}"
read -ra seeds <<<"${SEEDS:-1 2 3 4 5}"
read -ra skews <<<"${SKEWS:-skewed1 skewed2 skewed3 skewed4}"

set_up requirements.txt
for type in "${types[@]}"; do
    for skew in "${skews[@]}"; do
        for seed in "${seeds[@]}"; do run_one corrupted_cifar10 "$type" "$skew" severity4 "seed=$seed" "$@"; done
    done
done
run_end
