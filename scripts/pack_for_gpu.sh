#!/usr/bin/env bash
# Makes .gpu/, which travels to a GPU machine that has PyTorch and no internet: packages that such a
# machine usually lacks, MNIST and CIFAR-10. There, scripts/on_gpu.sh unpacks it and runs a command.
#
#     DATA_DIR=FOLDER scripts/pack_for_gpu.sh [PACKAGE...]    more packages of requirements.txt
#
# DATA_DIR        folder of MNIST's four files, and of cifar10_jpeg.zip or cifar10.zip
# PYTHON          the interpreter that runs pip (3.11 or newer)
# PYTHON_VERSION  the version of Python on the other machine, Linux x86-64 (default 3.12)

set -euo pipefail
# A relative folder is one of the caller's.
if [[ -d "${DATA_DIR:-}" ]]; then DATA_DIR=$(cd -- "$DATA_DIR" && pwd); fi
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# wrapt: sacred wants a version below 2.
packages=(sacred docopt-ng munch jsonpickle gitpython gitdb smmap wrapt pymongo dnspython setuptools "$@")
LIMIT_MIB=45

[[ -n "${DATA_DIR:-}" ]] || die "set DATA_DIR to the folder of MNIST's files."
found=$(find_python)
python=${PYTHON:-${found#* }}

wanted=()
for package in "${packages[@]}"; do
    line=$(grep -oE "^$package==[^ ]+" requirements.txt) || die "requirements.txt does not pin $package."
    wanted+=("$line")
done
rm -rf .gpu
mkdir -p .gpu/wheels
say "fetching ${#wanted[@]} packages"
# pip matches the number of a platform exactly.
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version "${PYTHON_VERSION:-3.12}" --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest .gpu/wheels "${wanted[@]}"
say "packing data"
"$python" scripts/carried.py pack "$DATA_DIR" .gpu/data
size=$(du -sm .gpu | cut -f1)
((size <= LIMIT_MIB)) || die ".gpu/ has $size MiB, more than $LIMIT_MIB."
say ".gpu/ is ready ($size MiB). On the other machine: bash scripts/on_gpu.sh COMMAND..."
