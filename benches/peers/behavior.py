"""The questions of benches/behavior.sql, asked of DuckDB or ClickHouse (chdb) on the same Parquet files.

Usage: behavior.py duckdb|clickhouse LOG_FOLDER [--threads N] [--repeat N] [--only QUERY] [--kept]

With --kept the files are first taken into a table of the engine's own, by user and time, on the disk; "load" is the time for that,
and "copy" DuckDB's for a sorted Parquet file.

Prints one JSON object: by query the best seconds, the peak memory beyond what the engine had before it in MiB, and the rows.
"""

import argparse
import json
import pathlib
import re
import shutil
import tempfile
import time

# Seconds that an engine rests before a question, as benches/behavior.rs lets Portrait.
SETTLE = 4
QUESTIONS = pathlib.Path(__file__).resolve().parent.parent / "behavior.sql"


def questions(engine):
    for part in re.split(r"^-- query: ", QUESTIONS.read_text(), flags=re.M)[1:]:
        name, rest = part.split("\n", 1)
        dialects = re.split(r"^-- (portrait|duckdb|clickhouse)$", rest, flags=re.M)
        found = dict(zip(dialects[1::2], dialects[2::2]))
        if engine in found:
            yield name.strip(), found[engine].strip()


def peak_mib():
    """The largest resident set since the last call, in MiB, and the one of now."""
    status = pathlib.Path("/proc/self/status").read_text()
    value = lambda key: int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024
    peak, now = value("VmHWM"), value("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak, now


def kept_asker(engine, folder, threads, results):
    """As asker, with the events in a table of the engine's own."""
    place = tempfile.mkdtemp(dir=pathlib.Path(folder).parent)

    def timed(name, run, *texts):
        peak_mib()
        began = time.perf_counter()
        for text in texts:
            run(text)
        results[name] = {"seconds": time.perf_counter() - began, "mib": peak_mib()[0], "rows": []}

    if engine == "duckdb":
        import duckdb

        connection = duckdb.connect(f"{place}/events.duckdb")
        connection.execute(f"SET threads = {threads}")
        ordered = f"SELECT * FROM read_parquet('{folder}/*.parquet') ORDER BY user_id, event_time"
        timed("copy", connection.execute, f"COPY ({ordered}) TO '{place}/events.parquet' (COMPRESSION zstd)")
        timed("load", connection.execute, f"CREATE TABLE events AS {ordered}", "CHECKPOINT")
        return lambda sql: connection.execute(sql.replace("{events}", "events")).fetchall(), place
    from chdb import session

    opened = session.Session(f"{place}/store")
    limit = f"SETTINGS max_threads = {threads}"
    table = "CREATE TABLE events ENGINE = MergeTree ORDER BY (user_id, event_time) SETTINGS allow_nullable_key = 1"
    timed("load", opened.query, "CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic", "USE d", f"{table} AS SELECT * FROM file('{folder}/*.parquet', Parquet) {limit}", "OPTIMIZE TABLE events FINAL")

    def ask(sql):
        text = sql.replace("{events}", "d.events")
        text += f", max_threads = {threads}" if " SETTINGS " in text else f" {limit}"
        return [list(row) for row in json.loads(opened.query(text, "JSONCompact").bytes() or b'{"data": []}')["data"]]

    return ask, place


def asker(engine, folder, threads):
    if engine == "duckdb":
        import duckdb

        connection = duckdb.connect()
        connection.execute(f"SET threads = {threads}")
        return lambda sql: connection.execute(sql.replace("{events}", f"read_parquet('{folder}/*.parquet')")).fetchall()
    import chdb

    def ask(sql):
        settings = f"max_threads = {threads}"
        text = sql.replace("{events}", f"file('{folder}/*.parquet', Parquet)")
        text += f", {settings}" if " SETTINGS " in text else f" SETTINGS {settings}"
        return [list(row) for row in json.loads(chdb.query(text, "JSONCompact").bytes() or b'{"data": []}')["data"]]

    return ask


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["duckdb", "clickhouse"])
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--kept", action="store_true")
    options = parser.parse_args()
    results, place = {}, None
    if options.kept:
        ask, place = kept_asker(options.engine, options.folder, options.threads, results)
    else:
        ask = asker(options.engine, options.folder, options.threads)
    for name, sql in questions(options.engine):
        if not name.startswith(options.only):
            continue
        time.sleep(SETTLE)
        peak_mib()
        seconds, peak, rows = [], 0.0, []
        for _ in range(options.repeat):
            began = time.perf_counter()
            rows = ask(sql)
            seconds.append(time.perf_counter() - began)
            peak = max(peak, peak_mib()[0])
        results[name] = {"seconds": min(seconds), "mib": peak, "rows": [[str(cell) for cell in row] for row in rows]}
    print(json.dumps(results))
    if place:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
