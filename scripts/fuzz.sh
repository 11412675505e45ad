#!/usr/bin/env bash
# Runs each fuzzer for FUZZ_SECONDS (default 30) on a copy of its corpus; new findings stay in build-fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
for program in build-fuzz/tests/fuzz_*; do
    [ -x "$program" ] && [ -f "$program" ] || continue
    name=$(basename "$program" | sed 's/^fuzz_//')
    work=build-fuzz/found/$name
    mkdir -p "$work"
    printf '%-16s ' "$name"
    "$program" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$work/" \
        -print_final_stats=1 "$work" "tests/fuzz/corpus/$name" >"$work.log" 2>&1 || { tail -30 "$work.log"; exit 1; }
    grep -E 'number_of_executed_units' "$work.log" | awk '{print $2 " inputs"}'
done
