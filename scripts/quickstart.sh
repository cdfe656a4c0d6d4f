#!/usr/bin/env bash
# From a fresh clone to a first comparison: sets up .venv, then trains plain ERM and DeNetDM on
# coloured digits and shows them side by side.
#
#     scripts/quickstart.sh [SETTING...]      settings for both runs, e.g. seed=2
#
# PYTHON chooses the interpreter that .venv is made with (3.11 or newer).

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up requirements.txt
for method in erm denetdm; do
    say "python main.py with colored_digits skewed3 severity4 $method quick $*"
    python main.py with colored_digits skewed3 severity4 "$method" quick "$@"
done
store=runs
for word in "$@"; do
    case "$word" in store=*) store=${word#store=} ;; esac
done
python results.py compare erm denetdm dataset=colored_digits --store "$store"
