"""The files of this folder: what a client sends, a statement a block.

    -- client: Example 1.2          the head: any comments
    -- let people: SELECT 'recorded_people'::regclass::oid
                                    asked of each server first; ${people} stands for the answer in statements and parameters

    -- send: simple                 or: extended, extended binary (the format of results)
    -- rows: same                   of both servers (the default), in any order; or: nonempty, any (what describes the server itself)
    -- ignore: reltuples, xmin      columns whose values are a server's own
    -- parameter: 25 public         OID of the type (0: the server's choice), then the text; NULL where there is none
    -- error: 42P01                 both servers must answer with this
    SELECT 1                        the text, until the next block
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Statement:
    text: str = ""
    extended: bool = False
    binary: bool = False
    rows: str = "same"
    ignore: frozenset = frozenset()
    parameters: list = field(default_factory=list)
    error: str = ""
    line: int = 0


@dataclass
class Corpus:
    lets: dict
    statements: list


def read(path: Path) -> Corpus:
    lets, statements, body, in_head = {}, [], [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key, _, value = line.removeprefix("-- ").partition(": ") if line.startswith("-- ") else ("", "", "")
        if key == "send":
            close(statements, body)
            protocol = value.split()
            unknown = set(protocol) - {"simple", "extended", "binary"}
            assert not unknown, f"{path.name}:{number}: {unknown}"
            statements.append(Statement(extended="extended" in protocol, binary="binary" in protocol, line=number))
            in_head = True
        elif not statements:
            if key.startswith("let "):
                lets[key.removeprefix("let ")] = value
        elif in_head and key in ("rows", "ignore", "parameter", "error"):
            annotate(statements[-1], key, value)
        else:
            in_head = False
            body.append(line)
    close(statements, body)
    return Corpus(lets, statements)


def annotate(statement, key, value):
    if key == "rows":
        assert value in ("same", "any", "nonempty"), f"rows: {value}"
        statement.rows = value
    elif key == "ignore":
        statement.ignore = frozenset(value.split(", "))
    elif key == "parameter":
        oid, _, text = value.partition(" ")
        statement.parameters.append((int(oid), None if text == "NULL" else text))
    else:
        statement.error = value


def close(statements, body):
    if statements:
        statements[-1].text = "\n".join(body).strip()
        assert statements[-1].text, f"line {statements[-1].line}: no statement"
    body.clear()
