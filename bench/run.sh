#!/usr/bin/env bash
# `make bench`: the gateway beside nginx, the worker beside llama-server and llama-bench; both sides in one run, ratios
# with their spread. Nothing else should use the machine meanwhile.
#   bench/run.sh [gateway|worker|batch|engine]
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
models=$(scripts/models.sh)
if [ "$what" = batch ]; then
    exec python3 bench/batch.py build "$models/SmolLM2-135M-Instruct.Q4_1.gguf"
fi
if [ "$what" = engine ]; then
    half=${INFERD_CACHE:-$HOME/.cache/inferd}/models/bench-half.gguf # half a billion random parameters, made once
    [ -e "$half" ] || { build/tests/make_model "$half.part" half && mv "$half.part" "$half"; }
    for model in "$models/SmolLM2-135M-Instruct.Q4_1.gguf" "$models/gemma-3-270m-q4_k_m.gguf" "$half"; do
        parts=${PARTS:-}
        [ "$model" = "$half" ] && parts=decode # its invented vocabulary makes three times the tokens of a text
        python3 bench/engine.py build "$(scripts/deps.sh --dir)" "$model" --rounds "${ROUNDS:-3}" $parts
    done
    exit
fi
if [ "$what" != worker ]; then
    state=$(mktemp -d)
    trap 'rm -rf "$state"' EXIT
    cat >"$state/bench.toml" <<TOML
[server]
max_connections = 20000
[models.bench]
upstream = "http://127.0.0.1:${BENCH_PORT:-18800}"
TOML
    echo "== gateway, routed by the body's model, beside nginx"
    HOME=$state PROXY_CMD="build/inferd serve --config $state/bench.toml --port {port} --models-dir $state --state-dir $state --log-level warn" \
        PROXY_PATH=/v1/chat/completions bench/gateway.sh build
fi
if [ "$what" != gateway ]; then
    echo "== worker beside llama-server and llama-bench"
    for model in SmolLM2-135M-Instruct.Q4_1 gemma-3-270m-q4_k_m; do
        python3 bench/worker.py build "$(scripts/deps.sh --dir)" "$models/$model.gguf" --rounds "${ROUNDS:-3}"
    done
fi
