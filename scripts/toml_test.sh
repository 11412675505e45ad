#!/usr/bin/env bash
# Installs the public toml-test suite into the cache and prints its path.
set -euo pipefail
bin=${INFERD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inferd}/go
mkdir -p "$bin"
exec 9>"$bin/.lock"
flock 9
[ -x "$bin/toml-test" ] || GOBIN=$bin go install github.com/toml-lang/toml-test/v2/cmd/toml-test@v2.2.0 >&2
echo "$bin/toml-test"
