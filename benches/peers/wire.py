"""The wire beside PostgreSQL 15: results as rows and by COPY, point lookups, connections at rest and at work, cancels.

Usage: wire.py --portrait BINARY [--postgres FOLDER] [--rows N] [--embeddings N] [--repeat N] [--seconds N] [--cancels N] [--only PART]

Starts both servers on loopback with data folders of their own, makes the rows in PostgreSQL and copies them into Portrait, and asks
both the same things with the same client, in turn. PostgreSQL is Debian's postgresql-15 as it comes, but for fsync (off),
shared_buffers (1GB) and the time zone; pgbench and psql are its own. PARTs: rows, embeddings, points, connections, cancels.

Results are read by a bare socket that counts bytes and looks at the end only (the command tag says the rows, and both servers must
send as many bytes); point lookups are pgbench's. Prints one JSON object: by case the best of the repeats, the spread between them,
the server's CPU seconds and the ratio to PostgreSQL (above 1 is faster than it); on stderr a table of the same.
"""

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

NARROW = """
CREATE TABLE narrow AS SELECT n AS user_id, (n % 1000)::int AS visits, n * 0.37::float8 AS spent,
    TIMESTAMP '2024-01-01' + n * INTERVAL '1.000001 second' AS seen, 'city' || (n % 40) AS city, n % 3 = 0 AS active
FROM generate_series(1::bigint, {rows}) AS g(n);
ALTER TABLE narrow ADD PRIMARY KEY (user_id);
CREATE TABLE embeddings AS SELECT n AS user_id, ARRAY(SELECT (random() + 0 * n)::float4 FROM generate_series(1, 384)) AS embedding
FROM generate_series(1::bigint, {embeddings}) AS g(n);
VACUUM (ANALYZE, FREEZE) narrow, embeddings;
"""
COLUMNS = "user_id bigint, visits int, spent float8, seen timestamp, city text, active boolean"
NAMES = "user_id, visits, spent, seen, city, active"
# What Portrait keeps: rows as they came, and the same by user for lookups.
TABLES = {
    "narrow": f"CREATE TABLE narrow ({COLUMNS})",
    "embeddings": "CREATE TABLE embeddings (user_id bigint, embedding real[])",
    "users": f"CREATE TABLE users ({COLUMNS}) WITH (user_column = 'user_id', time_column = 'seen')",
}
# Queries that take long, in ways that differ: a join, a sort, a result on its way.
LONG = [
    "SELECT count(*) FROM narrow a JOIN narrow b ON a.visits = b.visits",
    "SELECT * FROM narrow ORDER BY city, spent DESC",
    "SELECT * FROM narrow",
]
BUFFER = 1 << 18
# Few enough users that lookups keep them all in memory at once.
NEAR = 10_000
# A cancel that had no effect for so long has none.
LOST_S = 1
# The end of an answer: the tag, maybe with more before it, and that the server is ready.
COMPLETE = re.compile(rb"C\0\0\0.(?:SELECT|COPY) (\d+)\0Z\0\0\0\x05I$", re.S)
FAILED = re.compile(rb"E\0\0..S[A-Z]+\0.*C(\w{5})\0.*Z\0\0\0\x05I$", re.S)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """A connection that reads answers without looking into them."""

    def __init__(self, server):
        self.server, self.buffer = server, memoryview(bytearray(BUFFER))
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"\0\x03\0\0user\0portrait\0database\0portrait\0\0"
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        hello = b""
        while not hello.endswith(b"Z\0\0\0\x05I"):
            piece = self.socket.recv(65536)
            assert piece, f"{server.name} refused a connection: {hello!r}"
            hello += piece
        self.pid, self.key = struct.unpack("!ii", hello[hello.rindex(b"K\0\0\0\x0c") + 5 :][:8])

    def simple(self, sql):
        self.socket.sendall(message(b"Q", sql.encode() + b"\0"))

    def extended(self, sql):
        """Parse, Bind with binary results, Execute, Sync."""
        parts = message(b"P", b"\0" + sql.encode() + b"\0\0\0"), message(b"B", b"\0\0\0\0\0\0\0\x01\0\x01"), message(b"E", b"\0" * 5)
        self.socket.sendall(b"".join(parts) + message(b"S", b""))

    def read(self):
        """Reads to the end of an answer: the rows by its tag (or the SQLSTATE of its error) and the bytes."""
        tail, total, end = b"", 0, None
        while end is None:
            tail, total, end = self.piece(tail, total)
        return end, total

    def piece(self, tail, total):
        count = self.socket.recv_into(self.buffer)
        assert count, f"{self.server.name} closed the connection: {tail!r}"
        tail = (tail + bytes(self.buffer[max(count - 512, 0) : count]))[-512:]
        end = None
        if tail.endswith(b"Z\0\0\0\x05I"):
            if found := COMPLETE.search(tail):
                end = int(found[1])
            elif found := FAILED.search(tail):
                end = found[1].decode()
        return tail, total + count, end

    def read_within(self, seconds):
        """As read; `None` when the answer has not come to its end by then. What came of it is dropped."""
        until = time.perf_counter() + seconds
        tail, total = b"", 0
        while True:
            self.socket.settimeout(max(until - time.perf_counter(), 0.001))
            try:
                ended = self.piece(tail, total)
            except TimeoutError:
                return None
            finally:
                self.socket.settimeout(None)
            tail, total, end = ended
            if end is not None:
                return end, total

    def cancel(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as other:
            other.sendall(struct.pack("!iiii", 16, 80877102, self.pid, self.key))
            other.recv(1)

    def close(self):
        self.socket.sendall(message(b"X", b""))
        self.socket.close()


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


class Postgres:
    name = "postgres"

    def __init__(self, binaries, folder):
        self.port, self.binaries = free_port(), pathlib.Path(binaries)
        self.data, self.folder = folder / "postgres" / "data", folder / "postgres"
        self.folder.mkdir()
        if os.getuid() == 0:  # which initdb refuses
            folder.chmod(0o755)
            os.chown(self.folder, *pwd.getpwnam("postgres")[2:4])
        self.tool("initdb", "-U", "portrait", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=1GB -c timezone=UTC"
        self.tool("pg_ctl", "-l", str(self.folder / "log"), "-w", "-o", settings, "start")
        self.psql("CREATE DATABASE portrait", database="postgres")
        self.postmaster = int((self.data / "postmaster.pid").read_text().split()[0])

    def tool(self, name, *arguments):
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*user, str(self.binaries / name), "-D", str(self.data), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    def psql(self, sql, database="portrait"):
        subprocess.run(psql(self, "-c", sql, database=database), check=True)

    def cpu(self, client):
        return cpu_seconds(client.pid)

    def ended_cpu(self):
        """Of the connections that have ended."""
        return cpu_seconds(self.postmaster, children=True)

    def stop(self):
        self.tool("pg_ctl", "-m", "immediate", "stop")


class Portrait:
    name = "portrait"

    def __init__(self, binary, folder):
        self.port, self.binary, self.data, self.log = free_port(), binary, folder / "portrait", folder / "portrait.log"
        self.start()

    def start(self):
        arguments = ["serve", "--auth", "trust", "--max-connections", "300", "--data-dir", str(self.data)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, *arguments, "--listen", f"127.0.0.1:{self.port}"], stdout=log, stderr=log)
        for _ in range(300):
            with contextlib.suppress(OSError):
                return Client(self).close()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def psql(self, sql):
        subprocess.run(psql(self, "-c", sql), check=True)

    def cpu(self, _client):
        return cpu_seconds(self.process.pid)

    def ended_cpu(self):
        return cpu_seconds(self.process.pid)

    def resident_mib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def cpu_seconds(pid, children=False):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user = 13 if children else 11
    return (int(fields[user]) + int(fields[user + 1])) / os.sysconf("SC_CLK_TCK")


def address(server):
    return ["-h", "127.0.0.1", "-p", str(server.port), "-U", "portrait"]


def psql(server, *arguments, database="portrait"):
    return ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *address(server), "-d", database, *arguments]


def load(postgres, portrait, options):
    """The same rows into both."""
    for statement in NARROW.format(rows=options.rows, embeddings=options.embeddings).split(";\n"):
        if statement.strip():
            postgres.psql(statement)
    for table, definition in TABLES.items():
        portrait.psql(definition)
        source, names = ("embeddings", "user_id, embedding") if table == "embeddings" else ("narrow", NAMES)
        out = subprocess.Popen(psql(postgres, "-c", f"COPY {source} TO STDOUT (FORMAT binary)"), stdout=subprocess.PIPE)
        subprocess.run(psql(portrait, "-c", f"COPY {table} ({names}) FROM STDIN (FORMAT binary)"), stdin=out.stdout, check=True)
        assert out.wait() == 0


def results(servers, table, repeat, log):
    """Rows a second of a whole table, by the ways that it can be sent."""
    ways = {
        "binary": lambda client: client.extended(f"SELECT * FROM {table}"),
        "text": lambda client: client.simple(f"SELECT * FROM {table}"),
        "copy_binary": lambda client: client.simple(f"COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)"),
        "copy_text": lambda client: client.simple(f"COPY (SELECT * FROM {table}) TO STDOUT"),
    }
    for way in ["binary", "copy_binary"] if table == "embeddings" else list(ways):
        figures, sizes = {server.name: [] for server in servers}, set()
        for _ in range(repeat):
            for server in servers:
                client = Client(server)
                began, cpu = time.perf_counter(), server.cpu(client)
                ways[way](client)
                rows, size = client.read()
                seconds, cpu = time.perf_counter() - began, server.cpu(client) - cpu
                client.close()
                assert isinstance(rows, int), f"{server.name}: {rows}"
                figures[server.name].append((rows / seconds, cpu, size / seconds / 1e6))
                sizes.add((rows, size))
        assert len(sizes) == 1, f"{table} {way}: not the same rows: {sizes}"
        both = {name: of_rows(runs) for name, runs in figures.items()}
        yield f"{table}_{way}", compared(both, "rows_per_second", log, f"{table} {way}", 2.0 if way == "copy_binary" else 1.0)


def of_rows(runs):
    rates = [run[0] for run in runs]
    best = {"rows_per_second": max(rates), "spread": max(rates) / min(rates) - 1}
    return {**best, "cpu_seconds": min(run[1] for run in runs), "mb_per_second": max(run[2] for run in runs)}


def compared(both, key, log, label, goal):
    ours, theirs = both["portrait"], both["postgres"]
    ratio = ours[key] / theirs[key]
    rate = lambda one: f"{one[key]:>12,.0f} ±{one['spread'] * 100:>3.0f}%"
    cpu = lambda one: f"{one['cpu_seconds']:.2f} s" if "cpu_seconds" in one else f"{one['cpu_us_each']:.0f} us, p99 {one['p99_ms']:.2f} ms"
    log(f"{label:<24}{rate(ours)} {rate(theirs)} {ratio:>8.2f} {goal:>5.1f}   {cpu(ours)} : {cpu(theirs)}")
    return {**both, "ratio": ratio, "goal": goal}


def pgbench(server, folder, table, clients, seconds, rows):
    """Transactions a second, their latencies in ms and the server's CPU microseconds for each, with prepared statements."""
    script, cpu = folder / f"{table}.sql", server.ended_cpu()
    script.write_text(f"\\set id random(1, {rows})\nSELECT {NAMES} FROM {table} WHERE user_id = :id;\n")
    with tempfile.TemporaryDirectory(dir=folder) as logs:
        command = ["pgbench", "-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds)]
        done = subprocess.run([*command, "-l", "--log-prefix", f"{logs}/log", *address(server), "portrait"], capture_output=True, text=True)
        assert done.returncode == 0 and "number of failed transactions: 0 " in done.stdout, done.stdout + done.stderr
        latencies = sorted(int(line.split()[2]) / 1000 for file in pathlib.Path(logs).iterdir() for line in file.open())
    time.sleep(0.2)
    return float(re.search(r"^tps = ([\d.]+)", done.stdout, re.M)[1]), latencies, (server.ended_cpu() - cpu) * 1e6 / len(latencies)


def points(servers, folder, options, log):
    """One user's row by key."""
    tables = {"postgres": "narrow", "portrait": "users"}
    asked = lambda server, clients, seconds: pgbench(server, folder, tables[server.name], clients, seconds, options.rows)
    for server in servers:  # what is kept in memory comes there
        asked(server, 8, 2)
    for clients in (1, 8, 32):
        figures = {server.name: [] for server in servers}
        for _ in range(options.repeat):
            for server in servers:
                figures[server.name].append(asked(server, clients, options.seconds))
        both = {name: of_points(runs) for name, runs in figures.items()}
        p99 = both["postgres"]["p99_ms"] / both["portrait"]["p99_ms"]
        yield f"points_{clients}", {**compared(both, "tps", log, f"points, {clients} clients", 1.0), "p99_ratio": p99}


def of_points(runs):
    rates = [run[0] for run in runs]
    best = {"tps": max(rates), "spread": max(rates) / min(rates) - 1, "cpu_us_each": min(run[2] for run in runs)}
    return {**best, **{f"p{share}_ms": min(quantile(run[1], share / 100) for run in runs) for share in (50, 99)}}


def quantile(ordered, share):
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def connections(portrait, folder, options, log):
    """Resident memory of 200 connections at rest, and of 32 more that look users up."""
    portrait.stop()
    portrait.start()
    pgbench(portrait, folder, "users", 1, 2, NEAR)  # what lookups keep in memory belongs to no connection
    time.sleep(2)
    before = portrait.resident_mib()
    idle = [Client(portrait) for _ in range(200)]
    for client in idle:
        client.extended("SELECT 1")
        client.read()
    time.sleep(1)
    rested = portrait.resident_mib()
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        busy, peak = other.submit(pgbench, portrait, folder, "users", 32, options.seconds, NEAR), rested
        while not busy.done():
            peak = max(peak, portrait.resident_mib())
            time.sleep(0.05)
        busy.result()
    for client in idle:
        client.close()
    figures = {
        "before_mib": before,
        "idle_mib_each": (rested - before) / 200,
        "busy_mib_each": (peak - rested) / 32,
        "mib_each": (peak - before) / 232,
        "goal_mib_each": 1.0,
    }
    each = [f"{figures[name]:.3f} MiB" for name in ("idle_mib_each", "busy_mib_each", "mib_each")]
    log(f"connections: {before:.0f} MiB before; an idle one {each[0]}, a busy one {each[1]}, all {each[2]} each (goal < 1)")
    return figures


def cancels(server, count, log):
    """Milliseconds from the request to the error that the client reads, at random moments of queries that take long; and how
    long the connection's next statement takes, for cancelled work may go on behind the answer."""
    random.seed(7)
    client = Client(server)
    for sql in LONG:  # so that what stays loaded is loaded
        client.simple(sql)
        time.sleep(0.5)
        client.cancel()
        client.read()
    before, waits, lost, following = (server.resident_mib() if server.name == "portrait" else None), [[] for _ in LONG], [0] * len(LONG), []
    for at in range(count):
        kind = at % len(LONG)
        client.simple(LONG[kind])
        time.sleep(random.uniform(0.002, 0.08))
        began = time.perf_counter()
        client.cancel()
        end = client.read_within(LOST_S)
        if end is not None and end[0] == "57014":
            waits[kind].append((time.perf_counter() - began) * 1000)
        else:
            lost[kind] += 1
        if end is None:
            client.cancel()
            client.read()
        if at % 4 == 3:
            began = time.perf_counter()
            client.simple("SELECT 1")
            client.read()
            following.append((time.perf_counter() - began) * 1000)
    client.close()
    every = sorted(sum(waits, []) + [math.inf] * sum(lost))
    following.sort()
    figures = {"cancels": count, "lost": sum(lost), "p50_ms": quantile(every, 0.5), "p99_ms": quantile(every, 0.99), "goal_p99_ms": 250}
    figures |= {"longest_ms": max(sum(waits, [])), "next_p50_ms": quantile(following, 0.5), "next_p99_ms": quantile(following, 0.99)}
    figures["by_query"] = [{"sql": sql, "lost": gone, "p99_ms": quantile(sorted(some), 0.99)} for sql, gone, some in zip(LONG, lost, waits)]
    line = f"cancels, {server.name}: {count}, {sum(lost)} without effect; p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms (goal < 250)"
    line += f", longest {figures['longest_ms']:.1f} ms; next statement p50 {figures['next_p50_ms']:.1f} ms, p99 {figures['next_p99_ms']:.1f} ms"
    if before is not None:
        time.sleep(5)
        figures["before_mib"], figures["after_mib"] = before, server.resident_mib()
        line += f"; memory {before:.0f} -> {figures['after_mib']:.0f} MiB"
    log(line)
    return figures


def measured(postgres, portrait, folder, options, log):
    servers, found = (portrait, postgres), {}
    wanted = lambda part: not options.only or part in options.only.split(",")
    log(f"{'':<24}{'Portrait':>18} {'PostgreSQL':>18} {'ratio':>8} {'goal':>5}   CPU")
    if wanted("rows"):
        found.update(results(servers, "narrow", options.repeat, log))
    if wanted("embeddings"):
        found.update(results(servers, "embeddings", options.repeat, log))
    if wanted("points"):
        found.update(points(servers, folder, options, log))
    if wanted("connections"):
        found["connections"] = connections(portrait, folder, options, log)
    if wanted("cancels"):
        counts = options.cancels, options.cancels // 4
        found["cancels"] = {server.name: cancels(server, count, log) for server, count in zip(servers, counts)}
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--portrait", required=True, help="the binary")
    parser.add_argument("--postgres", default="/usr/lib/postgresql/15/bin", help="the folder of initdb and pg_ctl")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--embeddings", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=5, help="of each run of pgbench")
    parser.add_argument("--cancels", type=int, default=1000)
    parser.add_argument("--only", default="", help="parts, by commas")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    log = lambda line: print(line, file=sys.stderr, flush=True)
    folder, load_average = pathlib.Path(tempfile.mkdtemp()), os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = Postgres(options.postgres, folder)
        stack.callback(postgres.stop)
        portrait = Portrait(str(pathlib.Path(options.portrait).resolve()), folder)
        stack.callback(portrait.stop)
        load(postgres, portrait, options)
        found = measured(postgres, portrait, folder, options, log)
    found = {"rows": options.rows, "embeddings": options.embeddings, "processors": os.cpu_count(), "load_average": load_average, **found}
    print(json.dumps(found).replace("Infinity", "null"))


if __name__ == "__main__":
    main()
