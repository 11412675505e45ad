#!/usr/bin/env bash
# inferd with one named instance `bench` that is the bench's upstream, and keys at the door: what bench/gateway.sh measures
# for `make bench-instances`.  bench/with_instance.sh PORT BUILD_FOLDER KEYS   (the first key is "key-1")
set -euo pipefail
port=$1 build=$(realpath "$2") count=${3:-1}
state=$(mktemp -d)
keys=$(for n in $(seq "$count"); do printf '"key-%s",' "$n"; done)
cat >"$state/bench.toml" <<TOML
log_level = "warn"
[server]
max_connections = 20000
[auth]
management_keys = ["manage"]
inference_keys = [$keys]
TOML
manage() { curl -sf -o /dev/null -H "Authorization: Bearer manage" "$@"; }
(   # once it answers; the process itself is the server, so that whoever started it can measure and end it
    until curl -sf -o /dev/null "http://127.0.0.1:$port/health/live"; do sleep 0.05; done
    manage -X POST "http://127.0.0.1:$port/api/v1/instances/bench?wait=1" \
        -d "{\"backend_type\": \"command\", \"idle_timeout\": 0, \"backend_options\": {\"argv\": [\"$build/bench/bench_upstream\", \"{port}\"]}}"
    while manage "http://127.0.0.1:$port/api/v1/version"; do sleep 1; done
    rm -rf "$state"
) &
HOME=$state exec "$build/inferd" serve --config "$state/bench.toml" --port "$port" --models-dir "$state" --state-dir "$state/s"
