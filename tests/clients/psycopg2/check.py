"""psycopg 2: literals in the text, TLS where the server has it, named cursors, COPY, cancelling, errors by class."""

import datetime as dt
import io
import threading
from decimal import Decimal

import psycopg2
import psycopg2.errors
import psycopg2.extras


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


def values(connection):
    cursor = connection.cursor()
    utc = dt.timezone.utc
    for value, sql_type in [(True, "boolean"), (7, "int"), (2**40, "bigint"), (2.5, "double precision"), ("it's é \\ %", "text"),
                            (Decimal("12.50"), "numeric(10,2)"), (dt.date(2024, 2, 29), "date"), (dt.time(1, 2, 3), "time"),
                            (dt.datetime(2024, 2, 29, 12, 34, 56, 500000), "timestamp"), (dt.datetime(9999, 12, 31, 23, 59, 59), "timestamp"),
                            (dt.datetime(2024, 2, 29, 12, tzinfo=utc), "timestamptz"), (dt.timedelta(days=1, hours=2), "interval"),
                            ([1.0, 2.5], "real[]"), (["a", None, "b c"], "text[]"), (None, "text")]:
        cursor.execute(f"SELECT %s::{sql_type}", [value])
        check(sql_type, cursor.fetchone()[0], value)
    cursor.execute("SELECT %s::bytea", [psycopg2.Binary(b"\x00\xff")])
    check("bytea", bytes(cursor.fetchone()[0]), b"\x00\xff")
    cursor.execute("SELECT %s::json", [psycopg2.extras.Json({"a": [1, None]})])
    check("json", cursor.fetchone()[0], {"a": [1, None]})


def tables(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE psycopg2_t (a BIGINT, b TEXT, c NUMERIC(10,2))")
    psycopg2.extras.execute_values(cursor, "INSERT INTO psycopg2_t VALUES %s", [(1, "x", Decimal("1.50")), (2, None, None)])
    check("rowcount", cursor.rowcount, 2)
    cursor.execute("SELECT * FROM psycopg2_t WHERE a IN %s ORDER BY a", [(1, 2)])
    check("rows", cursor.fetchall(), [(1, "x", Decimal("1.50")), (2, None, None)])
    cursor.copy_expert("COPY psycopg2_t FROM STDIN (FORMAT csv)", io.StringIO('3,"a,b",2.25\n4,,\n'))
    check("copied in", cursor.rowcount, 2)
    taken = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM psycopg2_t ORDER BY a) TO STDOUT", taken)
    check("copied out", taken.getvalue(), "1\tx\t1.50\n2\t\\N\t\\N\n3\ta,b\t2.25\n4\t\\N\t\\N\n")
    cursor.execute("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'psycopg2_t' ORDER BY ordinal_position")
    check("columns", cursor.fetchall(), [("a", "bigint"), ("b", "text"), ("c", "numeric")])
    cursor.execute("DROP TABLE psycopg2_t")


def cursors(connection):
    with connection:
        with connection.cursor("large") as cursor:
            cursor.itersize = 1000
            cursor.execute("SELECT g FROM generate_series(1, %s) AS g", [10500])
            check("first", cursor.fetchone(), (1,))
            check("some", len(cursor.fetchmany(10)), 10)
            check("rest", sum(1 for _ in cursor), 10489)
        with connection.cursor("moved") as cursor:
            cursor.execute("SELECT g FROM generate_series(1, 100) AS g")
            cursor.scroll(50)
            check("after a move", cursor.fetchone(), (51,))
    held = connection.cursor("held", withhold=True)
    held.execute("SELECT g FROM generate_series(1, 10) AS g")
    connection.commit()
    check("after the commit", len(held.fetchall()), 10)
    held.close()
    connection.commit()


def errors(connection):
    cursor = connection.cursor()
    for query, error in [("SELECT * FROM nothing_there", psycopg2.errors.UndefinedTable), ("SELCT 1", psycopg2.errors.SyntaxError),
                         ("SELECT 1/0", psycopg2.errors.DivisionByZero), ("FETCH 1 FROM nothing_there", psycopg2.errors.InvalidCursorName),
                         ("DECLARE c CURSOR FOR SELECT 1", psycopg2.errors.NoActiveSqlTransaction)]:
        try:
            cursor.execute(query)
        except error as raised:
            assert raised.diag.message_primary and raised.pgcode
        else:
            raise AssertionError(query)


def cancelling(connection):
    threading.Timer(0.3, connection.cancel).start()
    try:
        connection.cursor().execute("SELECT pg_sleep(60)")
    except psycopg2.errors.QueryCanceled:
        pass
    else:
        raise AssertionError("not cancelled")


connection = psycopg2.connect("")
connection.autocommit = True
for part in (values, tables, errors, cancelling):
    part(connection)
    print(f"  {part.__name__}")
connection.autocommit = False
cursors(connection)
print("  cursors")
connection.close()
