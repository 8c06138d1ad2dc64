"""SQLAlchemy with each of its drivers, and pandas: inspection, Core, transactions, streaming, data frames."""

import datetime as dt
import os
from decimal import Decimal

import pandas
import sqlalchemy as sa


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


def inspection(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE sa_t (id BIGINT NOT NULL, name TEXT, price NUMERIC(10,2), at TIMESTAMP, day DATE, v REAL[])"))
        connection.execute(sa.text("CREATE VIEW sa_v AS SELECT id FROM sa_t"))
    found = sa.inspect(engine)
    assert {"public", "information_schema"} <= set(found.get_schema_names()), found.get_schema_names()
    check("tables", [name for name in found.get_table_names() if name.startswith("sa_")], ["sa_t"])
    check("views", [name for name in found.get_view_names() if name.startswith("sa_")], ["sa_v"])
    columns = [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns("sa_t")]
    check("columns", columns, [("id", "BIGINT", False), ("name", "TEXT", True), ("price", "NUMERIC(10, 2)", True),
                               ("at", "TIMESTAMP", True), ("day", "DATE", True), ("v", "ARRAY", True)])
    check("primary key", found.get_pk_constraint("sa_t")["constrained_columns"], [])
    for nothing in (found.get_foreign_keys, found.get_indexes, found.get_unique_constraints, found.get_check_constraints):
        check(nothing.__name__, nothing("sa_t"), [])
    check("comment", found.get_table_comment("sa_t"), {"text": None})
    check("others", (found.get_sequence_names(), found.get_enums(), found.get_domains(), found.get_temp_table_names()), ([], [], [], []))
    check("has", (found.has_table("sa_t"), found.has_table("sa_none"), found.has_index("sa_t", "none")), (True, False, False))
    assert ("public", "sa_t") in found.get_multi_columns(schema="public")
    check("reflected", [column.name for column in sa.Table("sa_t", sa.MetaData(), autoload_with=engine).columns],
          ["id", "name", "price", "at", "day", "v"])
    try:
        found.get_columns("sa_none")
    except sa.exc.NoSuchTableError:
        pass
    else:
        raise AssertionError("a table that is not there was inspected")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW sa_v"))
        connection.execute(sa.text("DROP TABLE sa_t"))


def core(engine):
    metadata = sa.MetaData()
    table = sa.Table("sa_core", metadata, sa.Column("id", sa.BigInteger), sa.Column("name", sa.String(20)), sa.Column("price", sa.Numeric(12, 3)),
                     sa.Column("at", sa.DateTime(timezone=True)), sa.Column("day", sa.Date), sa.Column("ok", sa.Boolean),
                     sa.Column("score", sa.Double))
    metadata.create_all(engine)
    at = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
    row = (1, "it's", Decimal("1.500"), at, dt.date(2024, 2, 29), True, 0.1)
    with engine.begin() as connection:
        names = [column.name for column in table.columns]
        connection.execute(table.insert(), [dict(zip(names, row, strict=True)), dict.fromkeys(names) | {"id": 2}])
        rows = connection.execute(sa.select(table).where(table.c.id.in_([1, 2])).order_by(table.c.id)).all()
        check("rows", [tuple(row) for row in rows], [row, (2, None, None, None, None, None, None)])
        check("contains", connection.execute(sa.select(table.c.id).where(table.c.name.contains("t's", autoescape=True))).scalars().all(), [1])
        counted = sa.select(table.c.ok, sa.func.count(), sa.func.max(table.c.price)).group_by(table.c.ok).order_by(table.c.ok)
        check("grouped", [tuple(row) for row in connection.execute(counted)], [(True, 1, Decimal("1.500")), (None, 1, None)])
        with connection.begin_nested():
            check("nested", connection.execute(sa.select(sa.literal(2))).scalar(), 2)
    metadata.drop_all(engine)


def errors(engine):
    for text, error, code in [("SELECT * FROM sa_none", sa.exc.ProgrammingError, "42P01"), ("SELECT 1/0", sa.exc.DataError, "22012")]:
        try:
            with engine.connect() as connection:
                connection.execute(sa.text(text)).all()
        except sa.exc.DBAPIError as raised:
            original = raised.orig
            shown = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or original.args[0]["C"]
            assert shown == code and (isinstance(raised, error) or engine.driver == "pg8000"), raised
        else:
            raise AssertionError(text)


def streaming(engine):
    with engine.connect().execution_options(stream_results=True, yield_per=1000) as connection:
        pages = [len(page) for page in connection.execute(sa.text("SELECT g FROM generate_series(1, 2500) AS g")).partitions(1000)]
    check("pages", pages, [1000, 1000, 500])


def frames(engine):
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", None, "q'"], "c": [1.5, None, 2.0], "e": [True, False, True],
                              "d": pandas.to_datetime(["2024-01-01", "2024-06-01", None])})
    frame.to_sql("sa_frame", engine, index=False, if_exists="replace")
    frame.to_sql("sa_frame", engine, index=False, if_exists="append", method="multi")
    read = pandas.read_sql("SELECT * FROM sa_frame ORDER BY a", engine)
    check("rows", len(read), 6)
    pandas.testing.assert_frame_equal(read.iloc[::2].reset_index(drop=True), frame, check_dtype=False)
    check("table", list(pandas.read_sql_table("sa_frame", engine).columns), ["a", "b", "c", "e", "d"])
    check("parameters", pandas.read_sql(sa.text("SELECT count(*) AS n FROM sa_frame WHERE a > :low"), engine, params={"low": 1})["n"][0], 4)
    with engine.connect().execution_options(stream_results=True) as connection:
        chunks = [len(chunk) for chunk in pandas.read_sql("SELECT g FROM generate_series(1, 2500) AS g", connection, chunksize=1000)]
    check("chunks", chunks, [1000, 1000, 500])
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE sa_frame"))


url = sa.URL.create("postgresql", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"], int(os.environ["PGPORT"]),
                    os.environ["PGDATABASE"])
for driver in ("psycopg", "psycopg2", "pg8000"):
    engine = sa.create_engine(url.set(drivername=f"postgresql+{driver}"))
    for part in (inspection, core, errors, streaming, frames):
        part(engine)
    engine.dispose()
    print(f"  {driver}")
