"""The same statements through the same drivers, asked of Portrait and of PostgreSQL 15: the answers must be equal.

    compare.py DRIVER PORTRAIT ORACLE      DRIVER: libpq, psycopg, psycopg2, asyncpg, pg, postgres, jdbc, odbc

PORTRAIT and ORACLE are conninfo strings. What differs on purpose stands in differences.txt; whatever else differs fails, and
so does a line there that nothing needs any more.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def values():
    """The type and text of each value."""
    for line in (HERE / "values.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            type_name, texts = line.split(": ", 1)
            yield from ((type_name, text.replace("<tab>", "\t")) for text in texts.split(" | "))


def statements():
    """Statements without parameters."""
    for type_name, text in values():
        literal = "'" + text.replace("'", "''") + "'"
        yield f"SELECT {literal}::{type_name} AS v"
        yield f"SELECT ARRAY[{literal}::{type_name}, NULL] AS v"
    for line in (HERE / "statements.sql").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("--"):
            yield line


def options(conninfo):
    return dict(part.split("=", 1) for part in conninfo.split())


def libpq(conninfo):
    """Names, types, modifiers and bytes, as they come: by every protocol, format and kind of COPY."""
    from psycopg import pq

    connection = pq.PGconn.connect(conninfo.encode())
    assert connection.status == pq.ConnStatus.OK, connection.error_message

    def shown(result):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            return "error " + result.error_field(pq.DiagnosticField.SQLSTATE).decode()
        if result.status == pq.ExecStatus.COPY_OUT:
            taken = b""
            while (piece := connection.get_copy_data(0))[0] > 0:
                taken += bytes(piece[1])
            # An error may come before the first row or instead of the COPY.
            ended = shown(connection.get_result())
            return ended if ended.startswith("error") and not taken else f"{taken!r} {ended}"
        columns = range(result.nfields)
        described = [(result.fname(c).decode(), result.ftype(c), result.fsize(c), result.fmod(c)) for c in columns]
        rows = [[None if (v := result.get_value(r, c)) is None else bytes(v) for c in columns] for r in range(result.ntuples)]
        return f"{described} {rows} {result.command_status}"

    def drain():
        while connection.get_result():
            pass

    def ask(text, *arguments):
        result = connection.exec_params(text.encode(), *arguments) if arguments else connection.exec_(text.encode())
        answer = shown(result)
        if result.status == pq.ExecStatus.COPY_OUT:
            drain()
        return answer

    for text in statements():
        yield f"simple {text}", ask(text)
        if text.startswith("SET"):
            continue
        for name, form in (("text", 0), ("binary", 1)):
            yield f"{name} {text}", ask(text, None, None, None, form)
        if text.startswith("SELECT "):
            for form in ("text", "csv", "binary"):
                yield f"copy {form} {text}", ask(f"COPY ({text}) TO STDOUT (FORMAT {form})")
    for type_name, text in values():
        query = f"SELECT $1::{type_name} AS v"
        yield f"parameter {query} {text}", ask(query, [text.encode()], None, None, 0)
        known = connection.exec_params(query.encode(), [text.encode()], None, None, 1)
        if known.status == pq.ExecStatus.TUPLES_OK:
            value, oid = known.get_value(0, 0), known.ftype(0)
            yield f"binary parameter {query} {text}", ask(query, [value], [oid], [1], 1)


def psycopg(conninfo):
    import psycopg

    with psycopg.connect(conninfo, autocommit=True) as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            for text in statements():
                yield f"{'binary' if binary else 'text'} {text}", answer(
                    lambda: cursor.execute(text).fetchall() if not text.startswith("SET") else cursor.execute(text).statusmessage,
                    psycopg.Error, lambda error: error.sqlstate)


def psycopg2(conninfo):
    import psycopg2

    connection = psycopg2.connect(conninfo)
    connection.autocommit = True
    cursor = connection.cursor()

    def run(text):
        cursor.execute(text)
        if not cursor.description:
            return cursor.statusmessage
        def plain(cell):
            return [plain(item) for item in cell] if isinstance(cell, list) else bytes(cell) if isinstance(cell, memoryview) else cell

        rows = [tuple(map(plain, row)) for row in cursor.fetchall()]
        return [column[:2] for column in cursor.description], rows

    for text in statements():
        yield text, answer(lambda: run(text), psycopg2.Error, lambda error: error.pgcode)


def asyncpg(conninfo):
    import asyncpg

    found = options(conninfo)

    async def run():
        connection = await asyncpg.connect(host=found["host"], port=int(found["port"]), user=found["user"],
                                           password=found.get("password"), database=found["dbname"])
        answers = []
        for text in statements():
            try:
                rows = await connection.fetch(text)
                answers.append((text, repr([tuple(row.items()) for row in rows])))
            except asyncpg.PostgresError as error:
                answers.append((text, f"error {error.sqlstate}"))
            except Exception as error:  # noqa: BLE001  (the driver cannot hold the value: the same on both, or a difference)
                answers.append((text, f"{type(error).__name__} {error}"))
        await connection.close()
        return answers

    yield from asyncio.run(run())


def odbc(conninfo):
    import pyodbc

    found = options(conninfo)
    connection = pyodbc.connect(
        f"DRIVER={{PostgreSQL Unicode}};SERVER={found['host']};PORT={found['port']};DATABASE={found['dbname']};UID={found['user']};"
        f"PWD={found.get('password', '')}", autocommit=True)
    cursor = connection.cursor()

    def run(text):
        cursor.execute(text)
        return ([column[:2] + column[3:] for column in cursor.description], cursor.fetchall()) if cursor.description else "done"

    for text in statements():
        yield text, answer(lambda: run(text), pyodbc.Error, lambda error: error.args[0])


def other(*command):
    """A driver of another language: it reads statements as JSON, a line each, and writes its answers so."""

    def run(conninfo):
        found = options(conninfo)
        environment = {**os.environ, "PGHOST": found["host"], "PGPORT": found["port"], "PGUSER": found["user"],
                       "PGDATABASE": found["dbname"], "PGPASSWORD": found.get("password", ""), "PGSSLMODE": "disable"}
        asked = list(statements())
        lines = "".join(json.dumps(text) + "\n" for text in asked)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, env=environment, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
        yield from (tuple(json.loads(line)) for line in done.stdout.splitlines())

    return run


def answer(run, error_type, sqlstate):
    try:
        return repr(run())
    except error_type as error:
        return f"error {sqlstate(error)}"
    except Exception as error:  # noqa: BLE001  (as above)
        return f"{type(error).__name__} {error}"


DRIVERS = {
    "libpq": libpq, "psycopg": psycopg, "psycopg2": psycopg2, "asyncpg": asyncpg, "odbc": odbc,
    "pg": other("node", str(HERE / "pg.js")),
    "postgres": other("node", str(HERE / "postgres.js")),
    "jdbc": other("java", "-cp", os.environ.get("COMPARE_CLASSPATH", ""), "Compare"),
}


def differences(driver):
    """The reviewed differences: pattern and reason."""
    for line in (HERE.parent / "differences.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            drivers, rest = line.split(" ", 1)
            pattern, reason = rest.rsplit(" ## ", 1)
            if driver in drivers.split(",") or drivers == "*":
                yield re.compile(pattern), reason, drivers == "*"


def main(driver, portrait, oracle):
    ours, theirs = dict(DRIVERS[driver](portrait)), dict(DRIVERS[driver](oracle))
    known = list(differences(driver))
    used, wrong, listed = set(), 0, 0
    for text, expected in theirs.items():
        seen = ours.get(text)
        # Where one server has no value, the value cannot be sent back as a parameter either.
        if seen == expected or (seen is None and text.startswith("binary parameter")):
            continue
        matching = [pattern for pattern, _, _ in known if pattern.search(text)]
        used.update(matching)
        if matching:
            listed += 1
            continue
        wrong += 1
        print(f"{driver}: {text}\n  PostgreSQL {expected}\n  Portrait   {seen}")
    # libpq is asked everything; other drivers do not see all that differs for all.
    idle = [pattern.pattern for pattern, _, general in known if pattern not in used and (driver == "libpq" or not general)]
    for pattern in idle:
        print(f"{driver}: nothing differs any more by the pattern {pattern}")
    print(f"  {driver}: {len(theirs)} answers, {listed} differ as listed, {wrong} differ otherwise")
    return wrong or len(idle)


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
