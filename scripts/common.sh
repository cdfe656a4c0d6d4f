# shellcheck shell=bash
# Sourced by the other scripts, after which they stand in the project root and can call
#     set_up requirements.txt [MORE...]    makes .venv, installs the files, puts `python` on the path
# Needs Linux and Python 3.11 or newer. PYTHON names the interpreter to use (default: the first of
# python3, python3.13, python3.12, python3.11 that is new enough).

set -euo pipefail

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    awk 'NR == 1 && /^#!/ { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$0"
    exit 0
fi

# A program that handles Ctrl-C itself ends with an ordinary status, after which bash would continue.
trap 'exit 130' INT

unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

VENV_PYTHON=.venv/bin/python
STAMP=.venv/installed

say() { printf '>> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# Prints "X.Y PATH" for a Python that is new enough. The path is that of the base interpreter: one
# inside .venv would be removed while .venv is made again.
describe_python() {
    "$1" -c 'import sys; assert sys.version_info >= (3, 11)
print("%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", sys.executable))' 2>/dev/null
}

find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        describe_python "$PYTHON" || die "PYTHON=$PYTHON is not a working Python 3.11 or newer: set it to one, or unset it."
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        describe_python "$candidate" && return
    done
    die "no Python 3.11 or newer found: install one, or set PYTHON to its path."
}

make_venv() {
    local found version
    found=$(find_python)
    version=${found%% *}
    say "making .venv with Python $version"
    "${found#* }" -m venv --clear .venv ||
        die "Python $version could not make .venv: on Debian and Ubuntu, 'apt install python$version-venv' fixes this."
}

venv_is_usable() {
    local version wanted
    "$VENV_PYTHON" -c 'import pip' 2>/dev/null || return 1
    version=$(describe_python "$VENV_PYTHON") || return 1
    [[ -n "${PYTHON:-}" ]] || return 0
    wanted=$(find_python) || exit
    [[ "${version%% *}" == "${wanted%% *}" ]]
}

install() {
    local args=() file
    for file in "$@"; do args+=(-r "$file"); done
    if [[ ! -x .venv/bin/uv ]]; then
        "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null || true
    fi
    if [[ -x .venv/bin/uv ]]; then
        # Compiled as pip does it: where Python may not write bytecode, as in many containers, each start would compile
        # all of torch, which takes as long as everything else that a start does.
        .venv/bin/uv pip install --quiet --compile-bytecode --python "$VENV_PYTHON" "${args[@]}" && return
        say "uv did not succeed, trying pip"
    else
        say "uv is not available, using pip (slower)"
    fi
    "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check "${args[@]}"
}

set_up() {
    local files index fingerprint
    venv_is_usable || make_venv
    # Files installed by another script stay in step with this one's.
    mapfile -t files < <({ printf '%s\n' "$@"; [[ ! -f $STAMP ]] || awk '{ print $2 }' "$STAMP"; } | sort -u)
    for index in "${!files[@]}"; do
        [[ -f "${files[index]}" ]] || unset "files[index]"
    done
    fingerprint=$(sha256sum -- "${files[@]}")
    if [[ "$fingerprint" != "$(cat "$STAMP" 2>/dev/null)" ]]; then
        say "installing ${files[*]} (5 GB with CUDA's libraries; seconds to minutes)"
        # Without a stamp an interrupted installation is repeated.
        rm -f "$STAMP"
        install "${files[@]}" || die "installation failed: see the message above, then run this again."
        printf '%s\n' "$fingerprint" >"$STAMP"
    fi
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
    unset PYTHONHOME
}

# Several runs: `run_one SETTING...` for each, then `run_end`. A run that fails does not stop the others; the failures are
# listed at the end and make the status 1.
runs=0
failed=()
run_one() {
    local status=0
    say "python main.py with $*"
    runs=$((runs + 1))
    python main.py with "$@" || status=$?
    # Also when only the run, not this script, was interrupted.
    if ((status == 130)); then exit 130; fi
    if ((status != 0)); then failed+=("status $status: python main.py with $*"); fi
}
run_end() {
    if ((${#failed[@]} > 0)); then
        say "${#failed[@]} of $runs runs failed:"
        printf '   %s\n' "${failed[@]}" >&2
        exit 1
    fi
    say "all $runs runs finished"
}

# A data set NAME under every seed in SEEDS (default 1 to 5): run_seeds NAME [SETTING...]
run_seeds() {
    local name=$1 seed seeds
    shift
    read -ra seeds <<<"${SEEDS:-1 2 3 4 5}"
    for seed in "${seeds[@]}"; do run_one "$name" "seed=$seed" "$@"; done
    run_end
}
