#!/usr/bin/env bash
# `make bench-instances`: requests through a named instance with keys and metrics on, beside nginx in the same run; the
# same with 1, 20 and 200 keys; then how starts, turns, crashes and kills go. Nothing else should use the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
export BENCH_KEY=key-1 PROXY_PATH=/v1/chat/completions
proxy="bench/with_instance.sh {port} build"
echo "== through an instance, one key and metrics on, beside nginx"
PROXY_CMD="$proxy 1" CELLS="post 1 200,post 64 200,post 64 32768,sse 1 5,sse 64 20,spread 64 20,spread 512 200" bench/gateway.sh build
for keys in 1 20 200; do
    echo "== $keys keys"
    PROXY_CMD="$proxy $keys" CELLS="post 1 200,post 64 200" bench/gateway.sh build | grep -E "^post|^cell"
done
python3 bench/instances.py
