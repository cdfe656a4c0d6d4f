#!/usr/bin/env bash
# Opens Omniboard on the runs, for this machine only. The database is the first of: the one that
# MONGO_URL names; a MongoDB on this machine (port 27017); else a local server that is started for
# it, with its data in runs/database. The runs in runs/ are brought there first, each once.
#
#     scripts/omniboard.sh
#     PORT=9100 MONGO_URL=mongodb://host:port/database scripts/omniboard.sh
#
# PORT    default 9000
# STORE   folder of the runs, default runs
# Needs Node 20 with npm. The local server is SecantusDB, which speaks MongoDB's protocol.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

store=${STORE:-runs}
command -v node >/dev/null && command -v npm >/dev/null ||
    die "Omniboard needs Node 20 with npm: install it, or use compose.yml with Docker."
set_up requirements.txt

if [[ "$(sha256sum package-lock.json)" != "$(cat node_modules/installed 2>/dev/null)" ]]; then
    say "npm ci (75 MB)"
    npm ci --omit=dev --no-audit --no-fund >&2 || die "npm ci failed: see above, then run this again."
    sha256sum package-lock.json >node_modules/installed
fi

mkdir -p "$store"
server=
# shellcheck disable=SC2329
stop() { [[ -z "$server" ]] || kill "$server" 2>/dev/null || true; }
trap stop EXIT
found=0
MONGO_URI=$(python -m debias.tracking.mongo.browse find) || found=$?
if ((found == 3)); then
    set_up requirements.txt requirements-test.txt
    port=$(python -m debias.tracking.mongo.browse port)
    say "no MongoDB found: starting a local server with its data in $store/database"
    secantusd-py --host 127.0.0.1 --port "$port" --storage-path "$store/database" --log-level ERROR >&2 &
    server=$!
    MONGO_URI=mongodb://127.0.0.1:$port/sacred
elif ((found != 0)); then
    exit "$found"
fi
export MONGO_URI MONGO_URL=$MONGO_URI PORT=${PORT:-9000}
python -m debias.tracking.mongo.browse wait
python main.py sync with "store=$store"
python -m debias.tracking.mongo.browse columns
say "Omniboard: http://127.0.0.1:$PORT/sacred    (Ctrl-C ends it)"
node -r ./scripts/loopback.cjs node_modules/.bin/omniboard
