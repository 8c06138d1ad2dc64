"""Writes the vectors beside it: what ClickHouse (chdb) says about random histories.

    python vectors.py            # needs: pip install chdb numpy

A table each, tab-separated: a line per history, written as rows `conditions@time` (conditions as letters, `.` for none),
a column per call. In `distinct.tsv` no two rows have one time and no row satisfies two conditions; in `tied.tsv` they do.
"""

import sys

import chdb
import numpy as np

FUNNELS = [
    "",
    "strict_deduplication",
    "strict_order",
    "strict_order,allow_reentry",
    "strict_increase",
    "strict_once",
    "strict_once,strict_increase",
    "strict_deduplication,strict_increase",
    "strict_order,strict_increase",
]
PATTERNS = [
    "(?1)(?2)",
    "(?1).*(?2)",
    "(?1).(?2)",
    "(?1)(?2).*(?3)",
    "(?1)(?t<=2)(?2)",
    "(?1)(?t>2)(?2)",
    "(?1)(?t>=3)(?2)(?t<4)(?3)",
    "(?1)(?t==2)(?2)",
    "(?1)(?t<3)(?2).*(?1)",
    "(?2).*(?1)(?t<=3)(?2)",
    "(?1)(?1)",
]
NEXT = [("forward", "head"), ("forward", "first_match"), ("forward", "last_match"), ("backward", "tail"), ("backward", "first_match"), ("backward", "last_match")]
STEPS = 3


def histories(rng, count, ties):
    for _ in range(count):
        rows = int(rng.integers(1, 11))
        times = rng.integers(0, 10, rows) if ties else rng.choice(30, rows, replace=False)
        if ties:
            masks = rng.integers(0, 1 << STEPS, rows) & rng.integers(0, 1 << STEPS, rows)
        else:
            masks = np.array([0, 1, 2, 4])[rng.integers(0, 4, rows)]
        yield sorted(zip(times.tolist(), masks.tolist()))


def text(rows):
    letters = lambda mask: "".join("abc"[bit] for bit in range(STEPS) if mask >> bit & 1) or "."
    return " ".join(f"{letters(mask)}@{time}" for time, mask in rows)


def ask(groups, expression):
    """One answer per group: every group's rows in one table."""
    values = ",".join(
        f"({group},{time},{mask & 1},{mask >> 1 & 1},{mask >> 2 & 1})" for group, rows in enumerate(groups) for time, mask in rows
    )
    query = f"""SELECT {expression} AS answer FROM values('g UInt32, t UInt32, a UInt8, b UInt8, c UInt8', {values})
                GROUP BY g ORDER BY g SETTINGS allow_experimental_funnel_functions = 1"""
    return str(chdb.query(query, "TabSeparated")).removesuffix("\n").split("\n")


def main():
    print(str(chdb.query("SELECT version()")).strip(), file=sys.stderr)
    for name, seed, ties in [("distinct", 1, False), ("tied", 2, True)]:
        rng = np.random.default_rng(seed)
        groups = list(histories(rng, 120, ties))
        calls = {}
        for words in FUNNELS:
            modes = "".join(f", '{word}'" for word in words.split(",") if word)
            window = int(rng.integers(2, 12))
            calls[f"funnel {window} {words}".strip()] = f"windowFunnel({window}{modes})(t, a, b, c)"
        for pattern in PATTERNS:
            calls[f"match {pattern}"] = f"sequenceMatch('{pattern}')(t, a, b, c)"
        for pattern in PATTERNS:
            calls[f"count {pattern}"] = f"sequenceCount('{pattern}')(t, a, b, c)"
        if not ties:
            for pattern in PATTERNS:
                calls[f"events {pattern}"] = f"arrayStringConcat(sequenceMatchEvents('{pattern}')(t, a, b, c), ' ')"
        calls["retention"] = "arrayStringConcat(retention(a, b, c), ' ')"
        if not ties:
            # The value of a row is its time, so that the order of rows is certain.
            for way, base in NEXT:
                calls[f"node {way} {base}"] = f"ifNull(sequenceNextNode('{way}', '{base}')(toDateTime(t), toString(t), 1, a, b), '-')"
        answers = [ask(groups, expression) for expression in calls.values()]
        with open(f"{name}.tsv", "w", encoding="utf-8") as out:
            for cells in [["history", *calls], *([text(rows), *found] for rows, *found in zip(groups, *answers, strict=True))]:
                out.write("\t".join(cells) + "\n")


if __name__ == "__main__":
    main()
