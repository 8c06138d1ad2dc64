"""The questions of benches/behavior.sql, asked of DuckDB or ClickHouse (chdb) on the same Parquet files.

Usage: behavior.py duckdb|clickhouse LOG_FOLDER [--threads N] [--repeat N] [--only QUERY]

Prints one JSON object: by query the best seconds, the peak memory beyond what the engine had before it in MiB, and the rows.
"""

import argparse
import json
import pathlib
import re
import time

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
    options = parser.parse_args()
    ask, results = asker(options.engine, options.folder, options.threads), {}
    for name, sql in questions(options.engine):
        if not name.startswith(options.only):
            continue
        peak_mib()
        seconds, peak, rows = [], 0.0, []
        for _ in range(options.repeat):
            began = time.perf_counter()
            rows = ask(sql)
            seconds.append(time.perf_counter() - began)
            peak = max(peak, peak_mib()[0])
        results[name] = {"seconds": min(seconds), "mib": peak, "rows": [[str(cell) for cell in row] for row in rows]}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
