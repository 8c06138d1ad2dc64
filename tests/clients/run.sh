#!/usr/bin/env bash
# Real drivers against a real server, each with a password and over TLS; a real PostgreSQL 15 beside it, which mounts the
# server's tables (fdw), is asked the same questions by every driver (compare: answers that differ and are not listed in
# differences.txt fail), and is sent what other clients were seen to send (recorded); other programs of Delta Lake on the
# same files; object storage (moto, on loopback); and the examples that need a driver.
#
#   tests/clients/run.sh            all of them
#   tests/clients/run.sh psql jdbc  some of them
#   PORTRAIT=path/to/portrait tests/clients/run.sh    with a binary that is there already
#
# Installs what is missing: psql, PostgreSQL, the ODBC and JDBC drivers from the distribution, the drivers of Python, Node
# and Rust from PyPI, npm and crates.io into a folder that is kept between runs (PORTRAIT_CLIENTS_CACHE, default
# ~/.cache/portrait/clients).
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
clients=${*:-psql psycopg psycopg2 asyncpg sqlalchemy adbc jdbc node odbc tokio-postgres sqlx pgbench fdw compare recorded lake s3 examples}
cache=${PORTRAIT_CLIENTS_CACHE:-$HOME/.cache/portrait/clients}
work=$(mktemp -d)
server=
oracle=

say() { printf '\n== %s\n' "$*"; }

cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  if [ -n "$oracle" ]; then
    as_postgres "$postgres/pg_ctl" -D "$oracle/data" -m immediate stop >/dev/null 2>&1 || true
    as_root rm -rf "$oracle"
  fi
  rm -rf "$work"
}
trap cleanup EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; } # initdb refuses root

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

need_node() {
  need node nodejs
  command -v npm >/dev/null || need npm npm
  if ! cmp -s node/package.json "$cache/node/package.json"; then
    say "installing Node drivers into $cache/node"
    mkdir -p "$cache/node"
    (cd "$cache/node" && cp "$here/node/package.json" wanted.json && rm -f package.json && cp wanted.json package.json &&
      npm install --silent --no-audit --no-fund >/dev/null) || { rm -f "$cache/node/package.json"; return 1; }
  fi
  export NODE_PATH=$cache/node/node_modules
}

need_jdbc() {
  need javac default-jdk-headless
  need /usr/share/java/postgresql.jar libpostgresql-jdbc-java
}

need_odbc() {
  need odbcinst unixodbc odbcinst
  need /usr/lib/"$(uname -m)"-linux-gnu/odbc/psqlodbcw.so odbc-postgresql
}

need_rust() { # the checks of the Rust drivers
  cargo build --locked --quiet --manifest-path rust/Cargo.toml --target-dir "$cache/rust"
}

need_oracle() { # a PostgreSQL 15 of its own, which is gone with this script; it asks the role clients for a password
  if [ -n "$oracle" ]; then return; fi
  postgres=/usr/lib/postgresql/15/bin
  need "$postgres/initdb" postgresql-15
  oracle=$(mktemp -d)
  install -m 600 "$work/server.pem" "$work/server.key" "$oracle"
  if [ "$(id -u)" = 0 ]; then chown -R postgres "$oracle"; fi
  oracle_port=$(free_port)
  as_postgres "$postgres/initdb" -D "$oracle/data" -U portrait -A trust -E UTF8 --locale=C.UTF-8 -N >/dev/null
  sed -i '1i host all clients 127.0.0.1/32 scram-sha-256' "$oracle/data/pg_hba.conf"
  as_postgres "$postgres/pg_ctl" -D "$oracle/data" -l "$oracle/log" -w start \
    -o "-p $oracle_port -k $oracle -c listen_addresses=127.0.0.1 -c fsync=off -c timezone=UTC \
      -c ssl=on -c ssl_cert_file=$oracle/server.pem -c ssl_key_file=$oracle/server.key" >/dev/null
  on_oracle -d postgres -qc 'CREATE DATABASE portrait' -c "CREATE ROLE clients LOGIN SUPERUSER PASSWORD 'of the clients'"
}

on_oracle() { PGPORT=$oracle_port PGPASSWORD= psql -X --no-psqlrc -v ON_ERROR_STOP=0 "$@"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

build() {
  if [ -z "${PORTRAIT:-}" ]; then
    (cd ../.. && cargo build --bin portrait)
    PORTRAIT=${CARGO_TARGET_DIR:-$here/../../target}/debug/portrait
  fi
}

start() {
  local port
  port=$(free_port)
  need openssl openssl
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$work/server.key" -out "$work/server.pem" \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE 2>/dev/null
  "$PORTRAIT" serve --data-dir "$work/data" --data-root ../../examples/data --listen "127.0.0.1:$port" \
    --tls-cert "$work/server.pem" --tls-key "$work/server.key" >"$work/server.log" 2>&1 &
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
  PGSSLMODE=verify-full PGSSLROOTCERT="$work/server.pem" psql -X --no-psqlrc -qAtc 'SELECT 1' "channel_binding=require" >/dev/null || status=1
  PGSSLMODE=disable psql -X --no-psqlrc -qAtc 'SELECT 1' >/dev/null || status=1
  for script in psql/*.sql; do
    psql -X --no-psqlrc -v ON_ERROR_STOP=0 -f "$script" >"$work/out" 2>&1 || true
    sed -i -e "s#psql:$script:#psql:#" -e 's/internal error [0-9a-f]*/internal error ID/' "$work/out"
    if [ "${BLESS:-}" = 1 ]; then cp "$work/out" "${script%.sql}.out"; fi
    if ! diff -u "${script%.sql}.out" "$work/out"; then status=1; fi
  done
  return $status
}

run_psycopg() { need_python && "$cache/venv/bin/python" psycopg/check.py; }

run_psycopg2() { need_python && "$cache/venv/bin/python" psycopg2/check.py; }

run_sqlalchemy() { need_python && "$cache/venv/bin/python" sqlalchemy/check.py; }

run_adbc() { need_python && "$cache/venv/bin/python" adbc/check.py; }

run_odbc() { need_odbc && need_python && "$cache/venv/bin/python" odbc/check.py; }

run_node() { need_node && NODE_EXTRA_CA_CERTS="$work/server.pem" node node/check.js; }

run_asyncpg() { need_python && "$cache/venv/bin/python" asyncpg/check.py; }

run_lake() { need_python && "$cache/venv/bin/python" lake/check.py "$work/data"; }

run_s3() { need_python && mkdir -p "$work/s3" && "$cache/venv/bin/python" s3/check.py "$PORTRAIT" "$work/s3"; }

run_jdbc() {
  need_jdbc
  javac -cp /usr/share/java/postgresql.jar -d "$work/jdbc" jdbc/Check.java
  java -cp "$work/jdbc:/usr/share/java/postgresql.jar" Check
}

rust_check() { # rust_check DRIVER: one program, with this server and with PostgreSQL
  need_oracle && need_rust || return
  local status=0 root=$work/server.pem
  PGSSLROOTCERT=$root "$cache/rust/debug/check-$1" Portrait || status=1
  PGSSLROOTCERT=$root PGPORT=$oracle_port PGUSER=clients PGPASSWORD='of the clients' "$cache/rust/debug/check-$1" "PostgreSQL 15" || status=1
  return $status
}

run_tokio-postgres() { rust_check tokio-postgres; }

run_sqlx() { rust_check sqlx; }

run_pgbench() { # point lookups by each protocol, none of which may fail
  need pgbench postgresql-contrib
  psql -X --no-psqlrc -qc "CREATE TABLE pgbench_t AS SELECT n AS a, 'x' || n AS b FROM generate_series(1, 1000) AS g(n)" || return
  local mode status=0
  for mode in simple extended prepared; do
    pgbench -n -M "$mode" -f pgbench/point.sql -c 4 -j 2 -t 50 >"$work/out" 2>&1 &&
      grep -q '^number of transactions actually processed: 200/200' "$work/out" && grep -q '^number of failed transactions: 0 ' "$work/out" ||
      { cat "$work/out"; status=1; }
    grep '^tps' "$work/out" | sed "s/^/  $mode: /"
  done
  psql -X --no-psqlrc -qc 'DROP TABLE pgbench_t'
  return $status
}

run_fdw() { # a PostgreSQL that mounts the server
  need_oracle
  psql -X --no-psqlrc -q -v ON_ERROR_STOP=1 -c "CREATE TABLE fdw_t AS SELECT n AS a, 'user ' || n AS b, n::numeric(10,2) / 4 AS c,
    DATE '2024-01-01' AS d, TIMESTAMP '2024-01-01 12:00:00' AS e, n % 2 = 0 AS f, ARRAY[1.5::real] AS g
    FROM generate_series(0, 9999) AS s(n)" || return
  on_oracle -d portrait -a -v host=127.0.0.1 -v port="$PGPORT" -v user="$PGUSER" -v password="$PGPASSWORD" -f fdw/check.sql >"$work/out" 2>&1
  sed -i -e 's#^psql:fdw/check.sql#psql#' "$work/out"
  psql -X --no-psqlrc -qc 'DROP TABLE fdw_t'
  if [ "${BLESS:-}" = 1 ]; then cp "$work/out" fdw/check.out; fi
  diff -u fdw/check.out "$work/out"
}

run_compare() { # the same questions to both servers, by every driver
  need_oracle && need_python && need_node && need_jdbc && need_odbc || return
  javac -d "$work/compare" compare/Compare.java || return
  local driver status=0 login="user=$PGUSER dbname=portrait host=127.0.0.1"
  for driver in libpq psycopg psycopg2 asyncpg pg postgres jdbc odbc; do
    COMPARE_CLASSPATH="$work/compare:/usr/share/java/postgresql.jar" PGPASSWORD= "$cache/venv/bin/python" compare/compare.py "$driver" \
      "$login port=$PGPORT password=$PGPASSWORD" "$login port=$oracle_port" || status=1
  done
  return $status
}

run_recorded() { # what other clients send, to both servers
  need_oracle && need_python || return
  # Without what others left there.
  on_oracle -d postgres -qc 'DROP DATABASE portrait' -qc 'CREATE DATABASE portrait'
  local login="user=$PGUSER dbname=portrait host=127.0.0.1"
  PGPASSWORD= "$cache/venv/bin/python" recorded/replay.py "$login port=$PGPORT password=$PGPASSWORD" "$login port=$oracle_port"
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
