"""Arrow clients: ADBC, which reads by COPY in binary, and polars by ADBC, connectorx and SQLAlchemy."""

import datetime as dt
import os
from decimal import Decimal

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import polars
import pyarrow as pa

URI = "postgresql://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


def read(connection, query, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetch_arrow_table()


def values(connection):
    query = """SELECT true AS a, 1::smallint AS b, 2::int AS c, 3::bigint AS d, 1.5::real AS e, 2.5::double precision AS f, 'é' AS g,
        '\\x00ff'::bytea AS h, date '2024-02-29' AS i, timestamp '2024-02-29 12:34:56.5' AS j, ARRAY[1.5::real, 2.5::real] AS k,
        ARRAY['a', NULL] AS l, '2024-02-29 12:00:00+00'::timestamptz AS m, 12.50::numeric(10,2) AS n, NULL::text AS o"""
    row = read(connection, query).to_pylist()[0]
    expected = {"a": True, "b": 1, "c": 2, "d": 3, "e": 1.5, "f": 2.5, "g": "é", "h": b"\x00\xff", "i": dt.date(2024, 2, 29),
                "j": dt.datetime(2024, 2, 29, 12, 34, 56, 500000), "k": [1.5, 2.5], "l": ["a", None],
                "m": dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc), "n": "12.50", "o": None}
    for name, wanted in expected.items():
        seen = row[name]
        check(name, seen if not isinstance(seen, Decimal) else str(seen), wanted)
    check("no rows", read(connection, "SELECT 1::bigint AS a WHERE false").num_rows, 0)
    check("many rows", read(connection, "SELECT g FROM generate_series(1, 200000) AS g")["g"].to_pylist(), list(range(1, 200001)))
    check("parameters", read(connection, "SELECT $1::bigint + 1 AS a, $2::text AS b", (41, "x")).to_pylist(), [{"a": 42, "b": "x"}])


def ingestion(connection):
    table = pa.table({"a": pa.array([1, 2, None], pa.int64()), "b": ["x", None, "q'"], "c": [1.5, 2.5, None], "d": [True, False, None]})
    with connection.cursor() as cursor:
        check("created", cursor.adbc_ingest("adbc_t", table, mode="create"), 3)
        check("appended", cursor.adbc_ingest("adbc_t", table, mode="append"), 3)
    connection.commit()
    check("rows", read(connection, "SELECT * FROM adbc_t").sort_by("a").slice(0, 2).to_pylist(),
          [{"a": 1, "b": "x", "c": 1.5, "d": True}] * 2)
    check("schema", [(field.name, str(field.type)) for field in connection.adbc_get_table_schema("adbc_t")],
          [("a", "int64"), ("b", "string"), ("c", "double"), ("d", "bool")])
    objects = connection.adbc_get_objects(depth="all", db_schema_filter="public").read_all().to_pylist()
    tables = [table for catalog in objects for schema in catalog["catalog_db_schemas"] or [] for table in schema["db_schema_tables"] or []]
    # The driver asks for no order, and says each column's place.
    of = lambda table: sorted(table["table_columns"], key=lambda column: column["ordinal_position"])
    found = [[column["column_name"] for column in of(table)] for table in tables if table["table_name"] == "adbc_t"]
    check("objects", found, [["a", "b", "c", "d"]])
    read(connection, "DROP TABLE adbc_t")
    connection.commit()


def errors(connection):
    for query, code in [("SELECT 1/0", "22012"), ("SELECT * FROM nothing_there", "42P01")]:
        try:
            read(connection, query)
        except adbc.Error as raised:
            check(query, raised.sqlstate, code)
        else:
            raise AssertionError(query)
        connection.rollback()


def frames(connection):
    query = "SELECT g AS a, 'x' AS b, 1.5::double precision AS c FROM generate_series(1, 1000) AS g"
    expected = polars.DataFrame({"a": range(1, 1001), "b": ["x"] * 1000, "c": [1.5] * 1000}).sum().row(0)
    for engine in ("adbc", "connectorx"):
        check(engine, polars.read_database_uri(query, URI, engine=engine).sum().row(0), expected)
    check("connection", polars.read_database(query, connection).height, 1000)
    connection.rollback()
    parts = connectorx.read_sql(URI, query, partition_on="a", partition_num=3, return_type="arrow")
    check("partitions", parts.num_rows, 1000)
    polars.DataFrame({"x": [1, 2], "y": ["a", None]}).write_database("polars_t", URI, engine="adbc")
    check("written", sorted(polars.read_database_uri("SELECT * FROM polars_t", URI, engine="adbc").rows()), [(1, "a"), (2, None)])
    read(connection, "DROP TABLE polars_t")
    connection.commit()


with adbc.connect(URI) as connection:
    for part in (values, ingestion, errors, frames):
        part(connection)
        print(f"  {part.__name__}")
