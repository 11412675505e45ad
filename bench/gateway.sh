#!/usr/bin/env bash
# A gateway beside nginx as a proxy, in front of the same upstream, in one run: interleaved rounds, medians, ratios.
#   bench/gateway.sh [BUILD_FOLDER]
# PROXY_CMD (see run.sh): the gateway to measure, a command line in which {port} and {upstream} are filled in; PROXY_PATH: its
# path for POST; CELLS: "mode connections size, ..."; ROUNDS, SECONDS_EACH, CORE: which core everything shares.
set -euo pipefail
build=$(realpath "${1:-build}")/bench
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-1.5} core=${CORE:-0}
base=${BENCH_PORT:-18800}
upstream=$base ours=$((base + 1)) nginx=$((base + 2))
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT

cat >"$work/nginx.conf" <<CONF
daemon off; master_process off; worker_processes 1; pid $work/nginx.pid; error_log $work/error.log;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  client_body_buffer_size 64k; client_max_body_size 64m;
  upstream up { server 127.0.0.1:$upstream; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:$nginx; tcp_nodelay on;
    location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host; proxy_buffering off; }
  }
}
CONF

start() { taskset -c "$core" "$@" & pids+=($!); }
wait_port() {
  for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.05; done
  echo "nothing listens on port $1" >&2; exit 1
}
ulimit -n 65536 2>/dev/null || true
start "$build/bench_upstream" $upstream
start nginx -p "$work" -c "$work/nginx.conf"
command=${PROXY_CMD//\{port\}/$ours}; command=${command//\{upstream\}/$upstream}
start bash -c "exec $command"
ours_pid=${pids[-1]}
for port in $upstream $ours $nginx; do wait_port $port; done
for _ in $(seq 200); do # an instance behind it may still be starting
  curl -sf -o /dev/null ${BENCH_KEY:+-H "Authorization: Bearer $BENCH_KEY"} -d '{"model": "bench"}' -H "Content-Type: application/json" \
    "http://127.0.0.1:$ours${PROXY_PATH:-/}" && break
  sleep 0.05
done

load() { taskset -c "$core" "$build/bench_load" "$@"; }
IFS=, read -ra cells <<<"${CELLS:-post 1 200,post 64 200,post 64 32768,sse 1 5,sse 64 20}"
for round in $(seq "$rounds"); do
  for cell in "${cells[@]}"; do
    read -r mode connections size <<<"$cell"
    path=(); [[ $mode == post && -n ${PROXY_PATH:-} ]] && path=("$PROXY_PATH")
    for who in upstream nginx ours; do
      numbers=$(load "$mode" "${!who}" "$connections" "$size" "$seconds" "${path[@]}")
      echo "$cell|$who|$numbers" >>"$work/results"
    done
  done
done
idle=$(load idle $ours 2000 "$ours_pid")

python3 - "$work/results" <<'PY'
import collections, statistics, sys
cells = collections.defaultdict(list)
for line in open(sys.argv[1]):
    cell, who, numbers = line.strip().split("|")
    cells[cell, who].append([float(x) for x in numbers.split()])
median = {key: [statistics.median(column) for column in zip(*rows)] for key, rows in cells.items()}
print(f"{'cell (mode connections size)':30} {'direct':>24} {'nginx':>24} {'ours':>24}   rate  p50+  p99+  us+  (ours/nginx)")
for cell in dict.fromkeys(cell for cell, _ in median):
    direct, nginx, ours = (median[cell, who] for who in ("upstream", "nginx", "ours"))
    text = [f"{r:9.0f} {a:6.0f} {b:7.0f}" for r, a, b in (direct, nginx, ours)]
    micros = ours[1] - direct[1]
    added = [(ours[i] - direct[i]) / max(nginx[i] - direct[i], 0.1) for i in (1, 2)]
    print(f"{cell:30} {text[0]:>24} {text[1]:>24} {text[2]:>24}  {ours[0]/nginx[0]:5.2f} {added[0]:5.2f} {added[1]:5.2f}  {micros:6.0f}")
print("columns: per second, p50 us, p99 us; p50+ and p99+: ratio of what each adds to direct; last: us added at the median")
PY
echo "own memory for an idle proxied stream: $idle bytes"
