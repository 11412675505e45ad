#!/usr/bin/env bash
# The vendors' own clients against a running server, and schemathesis against one that it starts itself: installs the
# pinned Python and Node packages into the cache (outside the clone) and runs tests/sdk. Needs INFERD_URL (e.g.
# http://127.0.0.1:8080/v1) and INFERD_MODEL; INFERD_COMPLETION_MODEL and INFERD_EMBEDDING_MODEL default to
# INFERD_MODEL, INFERD_KEY to a placeholder.
# `scripts/sdk.sh --install` only installs; arguments otherwise go to the Python tests (e.g. a test's name).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)/tests/sdk
cache=${INFERD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inferd}/sdk
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
stamp=$(cat "$here"/requirements.txt "$here"/package-lock.json | sha256sum | cut -c1-16)
if [ ! -f "$cache/.done-$stamp" ]; then
    printf 'sdk: installing the Python and Node clients into %s\n' "$cache" >&2
    python3 -m venv "$cache/python"
    "$cache/python/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/package.json" "$here/package-lock.json" "$cache/"
    (cd "$cache" && npm ci --silent --no-audit --no-fund)
    touch "$cache/.done-$stamp"
fi
flock -u 9
[ "${1:-}" = --install ] && exit 0

: "${INFERD_URL:?set INFERD_URL to the base URL, with /v1}" "${INFERD_MODEL:?set INFERD_MODEL to a chat model}"
"$cache/python/bin/python" -m unittest discover -s "$here" -p 'test_*.py' ${1:+-k "$1"}
# Node looks for packages beside the importing file: the copy in the cache finds them there.
cp "$here"/test_*.mjs "$cache/"
cd "$cache"
node --test --test-reporter=spec ./test_*.mjs
