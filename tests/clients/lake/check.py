"""Other programs of Delta Lake read what the server wrote, and write what it reads.

Usage: check.py DATA-DIR (of the running server; the connection comes from PG* variables)
"""

import datetime
import pathlib
import sys

import duckdb
import polars
import psycopg
import pyarrow
from deltalake import DeltaTable, write_deltalake

UTC = datetime.timezone.utc
data = pathlib.Path(sys.argv[1])
connection = psycopg.connect(autocommit=True)


def run(sql):
    cursor = connection.execute(sql)
    return cursor.fetchall() if cursor.description else cursor.statusmessage


def folder_of(name):
    for folder in (data / "tables").iterdir():
        if DeltaTable(folder).metadata().name == name:
            return folder
    raise SystemExit(f"no folder of table {name}")


run("""CREATE TABLE lake (event_id text, user_id bigint, event_time timestamptz, price float8)
       WITH (user_column = user_id, time_column = event_time, event_id = event_id)""")
lines = [f"e{n},{n * 7919 % 500},2024-05-01 00:00:{n % 60:02}+00,{n / 4}\n" for n in range(20_000)]
with connection.cursor() as cursor:
    for part in (lines[:15_000], lines[10_000:]):
        with cursor.copy("COPY lake (event_id, user_id, event_time, price) FROM STDIN (FORMAT csv)") as copy:
            copy.write("".join(part))
    with cursor.copy("COPY lake (event_id, user_id, event_time) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["text", "int8", "timestamptz"])
        copy.write_row(["e20000", 7, datetime.datetime(2024, 5, 2, tzinfo=UTC)])
        copy.write_row(["e19999", 7, datetime.datetime(2024, 5, 2, tzinfo=UTC)])
assert run("SELECT count(*), count(DISTINCT event_id) FROM lake") == [(20_001, 20_001)]

for compacted in (False, True):
    if compacted:
        run("OPTIMIZE lake")
    table = DeltaTable(folder_of("lake"))
    assert table.metadata().configuration["portrait.userColumn"] == "user_id"
    rows = table.to_pyarrow_table()
    assert rows.num_rows == 20_001 and len(set(rows["event_id"].to_pylist())) == 20_001
    assert set(rows["event_time"].type.tz.split()) == {"UTC"}
    assert polars.read_delta(str(folder_of("lake"))).select(polars.len()).item() == 20_001
    files = table.file_uris()
    for file in files:
        users = duckdb.sql(f"SELECT user_id, event_time FROM read_parquet('{file}')").fetchall()
        assert users == sorted(users), f"{file} is not in order"
    total = duckdb.sql(f"SELECT count(*), sum(price) FROM read_parquet({files!r})").fetchall()
    assert total == run("SELECT count(*), sum(price) FROM lake"), total

# Another program appends: its events are there, in no order, and their ids are known.
now = datetime.datetime.now(UTC)
foreign = pyarrow.table({
    "event_id": ["f1", "f2", "f3"],
    "user_id": [3, 1, 2],
    "event_time": pyarrow.array([now, now, now], pyarrow.timestamp("us", "UTC")),
    "price": [1.0, 2.0, 3.0],
    "ingested_at": pyarrow.array([now, now, now], pyarrow.timestamp("us", "UTC")),
})
write_deltalake(folder_of("lake"), foreign, mode="append")
assert run("SELECT count(*) FROM lake") == [(20_004,)]
assert run(f"INSERT INTO lake VALUES ('f1', 3, '{now}', 1), ('g1', 3, '{now}', 1)") == "INSERT 0 1"
assert run("SELECT user_id, count(*) FROM lake WHERE event_id IN ('f1', 'f2', 'g1') GROUP BY user_id ORDER BY 1") == [(1, 1), (3, 2)]
run("OPTIMIZE lake")
assert run("SELECT count(*), count(DISTINCT event_id) FROM lake") == [(20_005, 20_005)]
assert run("INSERT INTO lake SELECT event_id, user_id, event_time, price FROM lake") == "INSERT 0 0"
assert DeltaTable(folder_of("lake")).to_pyarrow_table().num_rows == 20_005
run("DROP TABLE lake")
print("lake: delta-rs, Polars and DuckDB read it; delta-rs writes it")
