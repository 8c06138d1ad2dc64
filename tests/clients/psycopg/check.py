"""psycopg 3: text and binary, parameters, transactions, pipelines, cursors, COPY, notices, errors, cancelling."""

import datetime as dt
import threading
import time
import uuid
from decimal import Decimal

import psycopg
from psycopg.types.json import Json, Jsonb


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


def values(connection):
    query = """SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 'é'::text, x'00ff'::bytea,
        12.50::decimal(10,2), DATE '2024-02-29', TIMESTAMP '2024-02-29 12:34:56.5', ARRAY[1.5::real, 2.5::real],
        ARRAY['a', NULL, 'b c'], NULL, '2024-02-29 12:00:00+00'::timestamptz"""
    utc = dt.timezone.utc
    expected = (True, 1, 2, 3, 1.5, 2.5, "é", b"\x00\xff", Decimal("12.50"), dt.date(2024, 2, 29),
                dt.datetime(2024, 2, 29, 12, 34, 56, 500000), [1.5, 2.5], ["a", None, "b c"], None,
                dt.datetime(2024, 2, 29, 12, tzinfo=utc))
    for binary in (False, True):
        row = connection.cursor(binary=binary).execute(query).fetchone()
        for index, (seen, wanted) in enumerate(zip(row, expected, strict=True)):
            check(f"column {index}, binary={binary}", seen, wanted)


def parameters(connection):
    now = dt.datetime(2024, 7, 3, 9, 46, 40, 123456)
    cases = [("boolean", True), ("int", 7), ("bigint", 2**40), ("double precision", 2.5), ("text", "it's é"), ("bytea", b"\x00\xff"),
             ("date", dt.date(2024, 2, 29)), ("timestamp", now), ("double precision[]", [1.0, 2.5]), ("text[]", ["a", "b c"]), ("text", None)]
    for sql_type, value in cases:
        for placeholder in ("%s", "%b", "%t"):
            row = connection.execute(f"SELECT {placeholder}::{sql_type}", [value]).fetchone()
            check(f"{sql_type} as {placeholder}", row[0], value)
    key = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    for placeholder in ("%s", "%b", "%t"):
        check(f"uuid as {placeholder}", connection.execute(f"SELECT {placeholder}::uuid", [key]).fetchone()[0], key)
        check("json", connection.execute(f"SELECT {placeholder}::json, {placeholder}::jsonb", [Json({"a": 1}), Jsonb([1])]).fetchone(),
              ({"a": 1}, [1]))
    check("numeric", connection.execute("SELECT %s::decimal(10,2)", [Decimal("1.50")]).fetchone()[0], Decimal("1.50"))
    for _ in range(7):  # from the fifth time on the statement is prepared on the server
        check("prepared", connection.execute("SELECT %s::int + 1", [41]).fetchone()[0], 42)


def uuids(connection):
    keys = [uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), uuid.UUID(int=7), None]
    connection.execute("CREATE TABLE psycopg_u (id uuid, doc json)")
    for key, placeholder in zip(keys, ("%s", "%b", "%t")):
        connection.execute(f"INSERT INTO psycopg_u VALUES ({placeholder}, %s)", [key, Json({"key": str(key)})])
    with connection.cursor() as cursor, cursor.copy("COPY psycopg_u (id) FROM STDIN WITH (FORMAT binary)") as copy:
        copy.set_types(["uuid"])
        copy.write_row([uuid.UUID(int=8)])
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        check("uuid column", cursor.execute("SELECT id, doc FROM psycopg_u WHERE id = %s", [keys[0]]).fetchall(),
              [(keys[0], {"key": str(keys[0])})])
        check("uuid type", cursor.description[0].type_code, 2950)
        check("uuids", cursor.execute("SELECT count(*) FROM psycopg_u WHERE id = ANY(%s)", [keys[:2]]).fetchone()[0], 2)
        check("uuid by text", cursor.execute("SELECT id FROM psycopg_u WHERE id = %s", [str(keys[0]).upper()]).fetchone()[0], keys[0])
        check("greatest", cursor.execute("SELECT id FROM psycopg_u WHERE id IS NOT NULL ORDER BY id DESC LIMIT 1").fetchone()[0], keys[0])
    connection.execute("DROP TABLE psycopg_u")


def tables(connection):
    connection.execute("CREATE TABLE psycopg_t (a BIGINT, b TEXT)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO psycopg_t VALUES (%s, %s)", [(1, "x"), (2, "y")])
    cursor = connection.execute("SELECT a, b FROM psycopg_t WHERE a = ANY(%s) ORDER BY a", [[1, 2]])
    check("names", [column.name for column in cursor.description], ["a", "b"])
    check("rows", cursor.fetchall(), [(1, "x"), (2, "y")])
    connection.execute("DROP TABLE psycopg_t")


def errors(connection):
    for query, error in [("SELECT * FROM nothing_there", psycopg.errors.UndefinedTable), ("SELCT 1", psycopg.errors.SyntaxError),
                         ("SELECT 1/0", psycopg.errors.DivisionByZero)]:
        try:
            connection.execute(query).fetchall()
        except error as raised:
            assert raised.diag.message_primary
        else:
            raise AssertionError(query)
    try:
        with connection.transaction():
            connection.execute("SELECT 1/0").fetchall()
    except psycopg.errors.DivisionByZero:
        pass
    check("after a failed block", connection.execute("SELECT 1").fetchone()[0], 1)


def notices(connection):
    seen = []
    connection.add_notice_handler(lambda notice: seen.append(notice.severity))
    connection.execute("DROP TABLE IF EXISTS nothing_there")
    check("notices", seen, ["NOTICE"])


def pipeline(connection):
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", [number]) for number in range(20)]
    check("pipeline", [cursor.fetchone()[0] for cursor in cursors], list(range(20)))


def streaming(connection):
    rows = connection.cursor().stream("SELECT * FROM generate_series(1, 100000)")
    check("stream", sum(1 for _ in rows), 100000)


def cursors(connection):
    for binary in (False, True):
        with connection.transaction(), connection.cursor("large", binary=binary) as cursor:
            cursor.execute("SELECT g, g::text FROM generate_series(1, %s) AS g", [1050])
            check("names", [column.name for column in cursor.description], ["g", "g"])
            check("some", cursor.fetchmany(2), [(1, "1"), (2, "2")])
            check("rest", len(cursor.fetchall()), 1048)
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT g FROM generate_series(1, 10) AS g")
        check("held", cursor.fetchmany(3), [(1,), (2,), (3,)])


def copying(connection):
    connection.execute("CREATE TABLE psycopg_c (a BIGINT, b TEXT, c TIMESTAMP, d BYTEA)")
    row = (1, "é\t", dt.datetime(2024, 2, 29, 1, 2, 3), b"\x00\xff")
    cursor = connection.cursor()
    for form in ("text", "binary"):
        with cursor.copy(f"COPY psycopg_c FROM STDIN (FORMAT {form})") as copy:
            copy.set_types(["int8", "text", "timestamp", "bytea"])
            copy.write_row(row)
            copy.write_row((None,) * 4)
        with cursor.copy(f"COPY (SELECT * FROM psycopg_c WHERE a = 1) TO STDOUT (FORMAT {form})") as copy:
            copy.set_types(["int8", "text", "timestamp", "bytea"])
            check(form, set(copy.rows()), {row})
    check("counted", connection.execute("SELECT count(*) FROM psycopg_c").fetchone()[0], 4)
    connection.execute("DROP TABLE psycopg_c")


def cancelling(connection):
    threading.Timer(0.3, connection.cancel_safe).start()
    started = time.monotonic()
    try:
        connection.execute("SELECT pg_sleep(60)").fetchall()
    except psycopg.errors.QueryCanceled:
        assert time.monotonic() - started < 30
    else:
        raise AssertionError("not cancelled")
    check("after a cancel", connection.execute("SELECT 1").fetchone()[0], 1)


with psycopg.connect(autocommit=True) as connection:
    for part in (values, parameters, uuids, tables, errors, notices, pipeline, streaming, cursors, copying, cancelling):
        part(connection)
        print(f"  {part.__name__}")
with psycopg.connect() as connection:  # not autocommit: BEGIN before the first statement
    check("in a transaction", connection.execute("SELECT 1").fetchone()[0], 1)
    check("status", connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)
    assert connection.info.server_version >= 150000
