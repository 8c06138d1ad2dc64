"""psycopg 3: text and binary, parameters, transactions, pipelines, notices, errors, cancelling."""

import datetime as dt
import threading
import time
from decimal import Decimal

import psycopg
from psycopg.types.json import Json  # noqa: F401  (registers nothing; proves that the import works)


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
    check("numeric", connection.execute("SELECT %s::decimal(10,2)", [Decimal("1.50")]).fetchone()[0], Decimal("1.50"))
    for _ in range(7):  # from the fifth time on the statement is prepared on the server
        check("prepared", connection.execute("SELECT %s::int + 1", [41]).fetchone()[0], 42)


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
    for part in (values, parameters, tables, errors, notices, pipeline, streaming, cancelling):
        part(connection)
        print(f"  {part.__name__}")
with psycopg.connect() as connection:  # not autocommit: BEGIN before the first statement
    check("in a transaction", connection.execute("SELECT 1").fetchone()[0], 1)
    check("status", connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)
    assert connection.info.server_version >= 150000
