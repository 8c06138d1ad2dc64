#!/usr/bin/env bash
# Real drivers against a real server: psql, psycopg 3, asyncpg and JDBC, each with a password; other programs of Delta
# Lake on the same files; object storage (moto, on loopback); and the examples that need a driver.
#
#   tests/clients/run.sh            all of them
#   tests/clients/run.sh psql jdbc  some of them
#   PORTRAIT=path/to/portrait tests/clients/run.sh    with a binary that is there already
#
# Installs what is missing: psql and the JDBC driver from the distribution, the Python drivers from PyPI into a
# virtual environment that is kept between runs (PORTRAIT_CLIENTS_CACHE, default ~/.cache/portrait/clients).
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
clients=${*:-psql psycopg asyncpg jdbc lake s3 examples}
cache=${PORTRAIT_CLIENTS_CACHE:-$HOME/.cache/portrait/clients}
work=$(mktemp -d)
server=

say() { printf '\n== %s\n' "$*"; }

cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

need() { # need COMMAND-OR-FILE PACKAGE…
  local wanted=$1; shift
  command -v "$wanted" >/dev/null 2>&1 || [ -e "$wanted" ] && return
  say "installing $*"
  as_root apt-get update -q >/dev/null && as_root apt-get install -qy "$@" >/dev/null
}

need_python() {
  need python3 python3
  if [ ! -x "$cache/venv/bin/python" ] || ! cmp -s requirements.txt "$cache/requirements.txt"; then
    say "installing Python drivers into $cache/venv"
    python3 -m venv "$cache/venv" || { need /usr/lib/python3/dist-packages/venv python3-venv; python3 -m venv "$cache/venv"; }
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$cache/requirements.txt"
  fi
}

build() {
  if [ -z "${PORTRAIT:-}" ]; then
    (cd ../.. && cargo build --bin portrait)
    PORTRAIT=${CARGO_TARGET_DIR:-$here/../../target}/debug/portrait
  fi
}

start() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$PORTRAIT" serve --data-dir "$work/data" --data-root ../../examples/data --listen "127.0.0.1:$port" >"$work/server.log" 2>&1 &
  server=$!
  export PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=portrait PGUSER=portrait PGSSLMODE=prefer
  for _ in $(seq 300); do
    if [ -e "$work/data/passfile" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      PGPASSWORD=$(grep -v '^#' "$work/data/passfile" | head -n 1 | cut -d: -f5)
      export PGPASSWORD
      return
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "error: the server did not start" >&2
  cat "$work/server.log" >&2
  exit 1
}

run_psql() { # what psql prints for each file, compared with what was reviewed
  need psql postgresql-client
  local status=0
  for script in psql/*.sql; do
    psql -X --no-psqlrc -v ON_ERROR_STOP=0 -f "$script" >"$work/out" 2>&1 || true
    sed -i -e "s#psql:$script:#psql:#" -e 's/internal error [0-9a-f]*/internal error ID/' "$work/out"
    if [ "${BLESS:-}" = 1 ]; then cp "$work/out" "${script%.sql}.out"; fi
    if ! diff -u "${script%.sql}.out" "$work/out"; then status=1; fi
  done
  return $status
}

run_psycopg() { need_python && "$cache/venv/bin/python" psycopg/check.py; }

run_asyncpg() { need_python && "$cache/venv/bin/python" asyncpg/check.py; }

run_lake() { need_python && "$cache/venv/bin/python" lake/check.py "$work/data"; }

run_s3() { need_python && mkdir -p "$work/s3" && "$cache/venv/bin/python" s3/check.py "$PORTRAIT" "$work/s3"; }

run_jdbc() {
  need javac default-jdk-headless
  need /usr/share/java/postgresql.jar libpostgresql-jdbc-java
  javac -d "$work/jdbc" jdbc/Check.java
  java -cp "$work/jdbc:/usr/share/java/postgresql.jar" Check
}

run_examples() {
  need psql postgresql-client
  PGOPTIONS='-c ml.epochs=1 -c ml.hidden_dim=8' psql -X --no-psqlrc -v ON_ERROR_STOP=1 -q -f ../../examples/quickstart/script.sql &&
    need_python && "$cache/venv/bin/python" ../../examples/pandas/main.py ""
}

need python3 python3
build
start
failed=
for client in $clients; do
  say "$client"
  if "run_$client"; then echo "$client: ok"; else failed="$failed $client"; fi
done
if [ -n "$failed" ]; then
  echo "failed:$failed" >&2
  tail -n 40 "$work/server.log" >&2
  exit 1
fi
