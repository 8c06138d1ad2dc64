"""psqlODBC, which stands for Excel, Tableau and other programs that speak ODBC: with prepared statements on the server, without
them, and with every query in a cursor."""

import datetime as dt
import os
import threading
from decimal import Decimal

import pyodbc


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


def connect(options, **settings):
    server = "SERVER={PGHOST};PORT={PGPORT};DATABASE={PGDATABASE};UID={PGUSER};PWD={PGPASSWORD}".format(**os.environ)
    return pyodbc.connect(f"DRIVER={{PostgreSQL Unicode}};{server};BoolsAsChar=0;{options}", **settings)


def values(cursor):
    row = cursor.execute("""SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 'xé', '\\x00ff'::bytea,
        12.50::numeric(10,2), date '2024-02-29', timestamp '2024-02-29 12:34:56.5', ARRAY['a', NULL], NULL""").fetchone()
    check("row", tuple(row), (True, 1, 2, 3, 1.5, 2.5, "xé", b"\x00\xff", Decimal("12.50"), dt.date(2024, 2, 29),
                              dt.datetime(2024, 2, 29, 12, 34, 56, 500000), "{a,NULL}", None))
    given = (1, "it's é", dt.datetime(2024, 2, 29, 1, 2, 3), b"\x00\xff", Decimal("1.50"), 2.5, dt.date(2024, 2, 29), None)
    query = "SELECT ?::int, ?::text, ?::timestamp, ?::bytea, ?::numeric(10,2), ?::double precision, ?::date, ?::text"
    check("parameters", tuple(cursor.execute(query, given).fetchone()), given)


def tables(cursor):
    cursor.execute("CREATE TABLE odbc_t (a BIGINT NOT NULL, b VARCHAR(20), c NUMERIC(10,2), d TIMESTAMP)")
    cursor.executemany("INSERT INTO odbc_t VALUES (?, ?, ?, ?)", [(1, "x", Decimal("1.50"), dt.datetime(2024, 1, 1)), (2, None, None, None)])
    check("rows", [tuple(row) for row in cursor.execute("SELECT * FROM odbc_t WHERE a IN (?, ?) ORDER BY a", 1, 2)],
          [(1, "x", Decimal("1.50"), dt.datetime(2024, 1, 1)), (2, None, None, None)])
    check("tables", [row.table_name for row in cursor.tables(table="odbc_t", schema="public")], ["odbc_t"])
    check("columns", [(row.column_name, row.type_name, row.nullable) for row in cursor.columns(table="odbc_t")],
          [("a", "int8", 0), ("b", "text", 1), ("c", "numeric", 1), ("d", "timestamp", 1)])
    for nothing in (cursor.primaryKeys, cursor.foreignKeys, cursor.statistics, cursor.rowIdColumns):
        check(nothing.__name__, nothing("odbc_t").fetchall(), [])
    assert len(cursor.getTypeInfo().fetchall()) > 20
    cursor.execute("DROP TABLE odbc_t")


def errors(cursor):
    for query, code in [("SELECT 1/0", "22012"), ("SELECT * FROM nothing_there", "42P01"), ("SELCT 1", "42601")]:
        try:
            cursor.execute(query).fetchall()
        except pyodbc.Error as raised:
            check(query, raised.args[0], code)
        else:
            raise AssertionError(query)


def large(cursor):
    check("rows", sum(row[0] for row in cursor.execute("SELECT g FROM generate_series(1, 10000) AS g")), 50005000)


def cancelling(cursor):
    threading.Timer(0.3, cursor.cancel).start()
    try:
        cursor.execute("SELECT pg_sleep(60)").fetchall()
    except pyodbc.Error as raised:
        assert raised.args[0] in ("57014", "HY008"), raised
    else:
        raise AssertionError("not cancelled")


for options in ("UseServerSidePrepare=1", "UseServerSidePrepare=0", "UseDeclareFetch=1;Fetch=100", "SSLmode=prefer"):
    for autocommit in (True, False):
        connection = connect(options, autocommit=autocommit)
        for part in (values, tables, large):
            part(connection.cursor())
            connection.commit()
        if autocommit:
            errors(connection.cursor())
            cancelling(connection.cursor())
        connection.close()
    print(f"  {options}")
