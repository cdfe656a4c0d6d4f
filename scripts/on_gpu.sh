#!/usr/bin/env bash
# Runs a command on a machine that has PyTorch but no internet, with what scripts/pack_for_gpu.sh
# packed: packages are installed and data unpacked into .cache/gpu, the first time only.
#
#     scripts/on_gpu.sh COMMAND...    e.g. scripts/on_gpu.sh python3 -m benchmarks.gpu --out FOLDER
#
# PYTHON  the interpreter with PyTorch (default python3)

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

python=${PYTHON:-python3}
[[ -d .gpu/wheels ]] || die "there is no .gpu/: make it by bash scripts/pack_for_gpu.sh, and bring it here."
folder=$PWD/.cache/gpu
wheels=$(cd .gpu/wheels && sha256sum -- *.whl)
if [[ "$wheels" != "$(cat "$folder/installed" 2>/dev/null)" ]]; then
    say "installing packages"
    rm -rf "$folder/site" "$folder/installed"
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-cache-dir \
        --target "$folder/site" .gpu/wheels/*.whl
    printf '%s\n' "$wheels" >"$folder/installed"
fi
say "unpacking data"
"$python" scripts/carried.py unpack .gpu/data "$folder/data"
export PYTHONPATH="$folder/site${PYTHONPATH:+:$PYTHONPATH}" DATA_DIR="$folder/data"
# Sacred asks for git, which such a machine may lack.
export GIT_PYTHON_REFRESH=quiet
if (($# > 0)); then exec "$@"; fi
