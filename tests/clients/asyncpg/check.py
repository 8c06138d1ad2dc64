"""asyncpg: binary only; types by introspection, cursors, COPY, pools, cancelling by timeout."""

import asyncio
import datetime as dt
import io
import uuid
from decimal import Decimal

import asyncpg


def check(label, seen, expected):
    assert seen == expected, f"{label}: {seen!r} instead of {expected!r}"


async def values(connection):
    row = await connection.fetchrow("""SELECT true AS a, 1::smallint AS b, 2::int AS c, 3::bigint AS d, 1.5::real AS e,
        2.5::double precision AS f, 'é'::text AS g, x'00ff'::bytea AS h, 12.50::decimal(10,2) AS i, DATE '2024-02-29' AS j,
        TIMESTAMP '2024-02-29 12:34:56.5' AS k, ARRAY[1.5::real, 2.5::real] AS l, ARRAY['a', NULL] AS m, NULL AS n,
        '2024-02-29 12:00:00+00'::timestamptz AS o, INTERVAL '1 day 02:00:00' AS p""")
    expected = (True, 1, 2, 3, 1.5, 2.5, "é", b"\x00\xff", Decimal("12.50"), dt.date(2024, 2, 29),
                dt.datetime(2024, 2, 29, 12, 34, 56, 500000), [1.5, 2.5], ["a", None], None,
                dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc), dt.timedelta(days=1, hours=2))
    for name, seen, wanted in zip(row.keys(), row.values(), expected, strict=True):
        check(name, seen, wanted)


async def parameters(connection):
    now = dt.datetime(2024, 7, 3, 9, 46, 40, 123456)
    for sql_type, value in [("boolean", True), ("smallint", 1), ("int", 7), ("bigint", 2**40), ("real", 1.5), ("double precision", 2.5),
                            ("text", "it's é"), ("bytea", b"\x00\xff"), ("date", dt.date(2024, 2, 29)), ("timestamp", now),
                            ("real[]", [1.0, 2.5]), ("text[]", ["a", "b c", None]), ("bigint[]", [1, 2]), ("text", None),
                            ("uuid", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")), ("json", '{"a": 1}')]:
        check(sql_type, await connection.fetchval(f"SELECT $1::{sql_type}", value), value)


async def tables(connection):
    await connection.execute("CREATE TABLE asyncpg_t (a BIGINT, b TEXT)")
    await connection.executemany("INSERT INTO asyncpg_t VALUES ($1, $2)", [(1, "x"), (2, "y")])
    rows = await connection.fetch("SELECT a, b FROM asyncpg_t WHERE a = ANY($1::bigint[]) ORDER BY a", [1, 2])
    check("rows", [tuple(row) for row in rows], [(1, "x"), (2, "y")])
    await connection.execute("DROP TABLE asyncpg_t")


async def uuids(connection):
    keys = [uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), uuid.UUID(int=7)]
    await connection.execute("CREATE TABLE asyncpg_u (id uuid, n int)")
    await connection.executemany("INSERT INTO asyncpg_u VALUES ($1, $2)", [(key, n) for n, key in enumerate(keys)])
    check("copied", await connection.copy_records_to_table("asyncpg_u", records=[(uuid.UUID(int=8), 2)]), "COPY 1")
    check("one", await connection.fetchval("SELECT id FROM asyncpg_u WHERE id = $1", keys[0]), keys[0])
    check("some", await connection.fetchval("SELECT count(*) FROM asyncpg_u WHERE id = ANY($1)", keys), 2)
    check("array", await connection.fetchval("SELECT $1::uuid[]", keys), keys)
    check("made", isinstance(await connection.fetchval("SELECT gen_random_uuid()"), uuid.UUID), True)
    await connection.execute("DROP TABLE asyncpg_u")


async def cursors(connection):
    async with connection.transaction():
        seen = [row[0] async for row in connection.cursor("SELECT * FROM generate_series(1, 1000)", prefetch=64)]
    check("cursor", seen, list(range(1, 1001)))


async def copying(connection):
    await connection.execute("CREATE TABLE asyncpg_c (a BIGINT, b TEXT, c TIMESTAMP, d REAL[])")
    rows = [(1, "x", dt.datetime(2024, 2, 29, 1, 2, 3), [1.0, 2.5]), (2, None, None, None)]
    check("copied in", await connection.copy_records_to_table("asyncpg_c", records=rows), "COPY 2")
    check("rows", [tuple(row) for row in await connection.fetch("SELECT * FROM asyncpg_c ORDER BY a")], rows)
    taken = io.BytesIO()
    await connection.copy_from_query("SELECT a, b FROM asyncpg_c ORDER BY a", output=taken, format="csv")
    check("copied out", taken.getvalue(), b"1,x\n2,\n")
    columns = await connection.fetch("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
                                     "asyncpg_c")
    check("columns", [tuple(row) for row in columns], [("a", "bigint"), ("b", "text"), ("c", "timestamp without time zone"), ("d", "ARRAY")])
    await connection.execute("DROP TABLE asyncpg_c")


async def errors(connection):
    for query, error in [("SELECT * FROM nothing_there", asyncpg.UndefinedTableError), ("SELCT 1", asyncpg.PostgresSyntaxError),
                         ("SELECT 1/0", asyncpg.DivisionByZeroError)]:
        try:
            await connection.fetch(query)
        except error:
            pass
        else:
            raise AssertionError(query)


async def cancelling(connection):
    try:
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("not cancelled")
    check("after a cancel", await connection.fetchval("SELECT 1"), 1)


async def main():
    connection = await asyncpg.connect()
    for part in (values, parameters, uuids, tables, cursors, copying, errors, cancelling):
        await part(connection)
        print(f"  {part.__name__}")
    await connection.close()
    async with asyncpg.create_pool(min_size=2, max_size=4) as pool:  # what comes back is reset
        check("pool", await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(20))), list(range(20)))
    print("  pool")


asyncio.run(main())
