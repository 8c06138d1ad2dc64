"""Sends what clients were seen to send (corpus.py says how it is written down) to Portrait and to PostgreSQL 15.

    replay.py PORTRAIT ORACLE [CLIENT…]      conninfo strings; all the files of this folder, or some

A statement fails when Portrait answers with an error and PostgreSQL does not, with other columns or types, or with other
rows where rows are to be the same. What differs on purpose stands in differences.txt; a line there that nothing needs any
more fails as well.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from psycopg import pq

import corpus

HERE = Path(__file__).parent
OID_TYPES = {24, 26, 2202, 2205, 2206, 4089, 4096}  # oid, and the reg… types that are sent as one in binary
NO_ROWS = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xff"  # a COPY in binary
VIEWS, TABLES = ("recorded_active",), ("recorded_copy", "recorded_orders", "recorded_people")

# Each server numbers these itself: they are compared by name.
NUMBERED = """
    SELECT oid, 'class ' || relname FROM pg_catalog.pg_class WHERE relname LIKE 'recorded%'
    UNION ALL SELECT oid, 'type ' || typname FROM pg_catalog.pg_type WHERE typname LIKE '%recorded%'
    UNION ALL SELECT oid, 'schema ' || nspname FROM pg_catalog.pg_namespace
    UNION ALL SELECT oid, 'database ' || datname FROM pg_catalog.pg_database
    UNION ALL SELECT oid, 'role ' || rolname FROM pg_catalog.pg_roles WHERE rolname = current_user
"""


@dataclass
class Answer:
    columns: list
    rows: list
    tag: str
    error: str = ""
    message: str = ""


class Server:
    def __init__(self, conninfo):
        self.connection = pq.PGconn.connect(conninfo.encode())
        assert self.connection.status == pq.ConnStatus.OK, self.connection.get_error_message()
        self.connection.notice_handler = lambda _: None
        self.names = {int(oid): name.decode() for oid, name in self.value_rows(NUMBERED)}

    def value_rows(self, query):
        answers = self.simple(query)
        assert not answers[-1].error, f"{query}: {answers[-1].message}"
        return answers[-1].rows

    def drop_tables(self):
        for kind, relations in (("VIEW", VIEWS), ("TABLE", TABLES)):
            for relation in relations:
                self.simple(f"DROP {kind} IF EXISTS {relation}")

    def simple(self, text):
        self.connection.send_query(text.encode())
        return self.answers()

    def extended(self, text, statement, lets):
        values, oids, formats = [], [], []
        for oid, value in statement.parameters:
            binary = value is not None and value.startswith("binary ")
            value = value if value is None else fill(value, lets)
            values.append(bytes.fromhex(value.removeprefix("binary ")) if binary else value and value.encode())
            oids.append(oid)
            formats.append(int(binary))
        self.connection.send_query_params(text.encode(), values, oids, formats, int(statement.binary))
        return self.answers()

    def answers(self):
        found = []
        while result := self.connection.get_result():
            if result.status == pq.ExecStatus.COPY_OUT:
                copied = b""
                while (piece := self.connection.get_copy_data(0))[0] > 0:
                    copied += bytes(piece[1])
                found.append(Answer([("copy", 0)], [(copied,)], "COPY"))
            elif result.status == pq.ExecStatus.COPY_IN:
                self.connection.put_copy_data(NO_ROWS)
                self.connection.put_copy_end()
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                fields = (pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY)
                state, message = (result.error_field(field).decode() for field in fields)
                found.append(Answer([], [], "", state, message))
            else:
                found.append(self.read(result))
        return found

    def read(self, result):
        columns = [(result.fname(column).decode(), result.ftype(column)) for column in range(result.nfields)]
        rows = [tuple(result.get_value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]
        return Answer(columns, rows, (result.command_status or b"").decode())

    def comparable(self, answer, binary, ignored):
        """Rows in an order of their own, with names for the numbers that are a server's own."""

        def cell(value, name, oid):
            if name in ignored:
                return "…"
            if value is None or oid not in OID_TYPES:
                return value
            if binary:
                return self.names.get(int.from_bytes(value, "big"), value)
            return self.names.get(int(value), value) if value.isdigit() else value

        return sorted((tuple(cell(value, *column) for value, column in zip(row, answer.columns)) for row in answer.rows), key=repr)


def fill(text, lets):
    return re.sub(r"\$\{(\w+)\}", lambda found: lets[found[1]], text)


def ask(server, statement, lets):
    text = fill(statement.text, lets)
    return server.extended(text, statement, lets) if statement.extended else server.simple(text)


def findings(statement, ours, theirs, portrait, oracle):
    """What is wrong with Portrait's answers to one statement."""
    last = theirs[-1].error
    if last != statement.error:
        yield f"the corpus is wrong: PostgreSQL answers {last} {theirs[-1].message}"
        return
    for mine, expected in zip(ours, theirs):
        if mine.error != expected.error:
            yield f"error {mine.error} {mine.message}" if mine.error else f"no error, but {expected.error} {expected.message}"
            return
        if len(mine.columns) != len(expected.columns):
            yield f"{len(mine.columns)} columns instead of {len(expected.columns)}"
            return
        for (name, oid), (right_name, right_oid) in zip(mine.columns, expected.columns):
            if name != right_name:
                yield f"column {name} instead of {right_name}"
            if oid != right_oid:
                yield f"column {right_name}: type {oid} instead of {right_oid}"
        yield from compare_rows(statement, mine, expected, portrait, oracle)
    if len(ours) != len(theirs):
        yield f"{len(ours)} answers instead of {len(theirs)}"


def compare_rows(statement, mine, expected, portrait, oracle):
    if statement.rows == "same":
        seen = portrait.comparable(mine, statement.binary, statement.ignore)
        right = oracle.comparable(expected, statement.binary, statement.ignore)
        if seen != right:
            missing, more = [row for row in right if row not in seen], [row for row in seen if row not in right]
            yield f"rows: {len(seen)} instead of {len(right)}; missing {missing[:2]}; more {more[:2]}"
        if mine.tag != expected.tag:
            yield f"tag {mine.tag} instead of {expected.tag}"
    elif statement.rows == "nonempty" and expected.rows and not mine.rows:
        yield "no rows"


def replay(path, conninfos, known):
    """The number of statements, and of findings that are not known; prints those."""
    found = corpus.read(path)
    if not found.statements:
        print(f"  {path.name}: nothing to send")
        return 0, 1
    portrait, oracle = (Server(conninfo) for conninfo in conninfos)
    lets = [{name: server.value_rows(query)[0][0].decode() for name, query in found.lets.items()} for server in (portrait, oracle)]
    wrong = 0
    for statement in found.statements:
        ours, theirs = ask(portrait, statement, lets[0]), ask(oracle, statement, lets[1])
        for finding in findings(statement, ours, theirs, portrait, oracle):
            matching = [line for line in known if line.matches(path.stem, finding)]
            for line in matching:
                line.used = True
            if not matching:
                wrong += 1
                print(f"  {path.name}:{statement.line}: {finding}")
    return len(found.statements), wrong


class Difference:
    def __init__(self, line):
        rest, self.reason = line.rsplit(" ## ", 1)
        self.client, pattern = rest.split(" ", 1)
        self.pattern, self.used = re.compile(pattern), False

    def matches(self, client, finding):
        return self.client in ("*", client) and self.pattern.search(finding)


def differences():
    lines = (HERE / "differences.txt").read_text(encoding="utf-8").splitlines()
    return [Difference(line) for line in lines if line and not line.startswith("#")]


def make_tables(conninfo):
    server = Server(conninfo)
    server.drop_tables()
    for line in (HERE / "fixture.sql").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("--"):
            server.value_rows(line)


def main(portrait, oracle, *clients):
    conninfos, known, failed = (portrait, oracle), differences(), False
    paths = [path for path in sorted(HERE.glob("*.sql")) if path.stem != "fixture" and path.stem in (clients or {path.stem})]
    assert paths, "no such client"
    for conninfo in conninfos:
        make_tables(conninfo)
    for path in paths:
        count, wrong = replay(path, conninfos, known)
        print(f"{path.stem} {count} statements: {f'{wrong} differ' if wrong else 'ok'}")
        failed |= wrong > 0
    for conninfo in conninfos:
        Server(conninfo).drop_tables()
    for line in known:
        if not line.used and not clients:
            failed = True
            print(f"nothing differs any more by the pattern {line.pattern.pattern}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
