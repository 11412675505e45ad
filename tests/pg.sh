#!/usr/bin/env bash
# Runs programs against a PostgreSQL of their own: `tests/pg.sh PROGRAM...`; each finds its URL in $INFERD_TEST_PG.
# The server listens on a Unix socket in a new folder, and ends with this script.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || { echo "PostgreSQL's server is not installed (apt-get install postgresql)"; exit 1; }
folder=$(mktemp -d /tmp/inferd-pg-XXXXXX)
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then # the server refuses to be root
    chown postgres "$folder"
    as() { runuser -u postgres -- "$@"; }
fi
chmod 755 "$folder" # the socket is for us, who may be another user
end() {
    as "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' INT TERM
cd /
as "$bin/initdb" -D "$folder/data" -A trust -U inferd -E UTF8 --no-locale >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
rm -f "$folder.log"
as "$bin/pg_ctl" -D "$folder/data" -w -t 60 -l "$folder/data/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder'" start >/dev/null || { cat "$folder/data/log"; exit 1; }
export INFERD_TEST_PG="postgresql://inferd@/postgres?host=$folder"
for program in "$@"; do
    "$program"
done
