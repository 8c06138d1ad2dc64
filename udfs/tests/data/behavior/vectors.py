"""Writes the vectors beside it: what ClickHouse (chdb) says about random histories.

    python vectors.py            # needs: pip install chdb numpy

One line per case, tab-separated: call, steps, window, rows as `conditions@time` (conditions as letters, `.` for none),
and the answer. `distinct_*` have one row per time and at most one condition per row; `tied_*` have neither.
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


def write(name, groups, calls):
    with open(name, "w", encoding="utf-8") as out:
        for label, window, expression in calls:
            for rows, answer in zip(groups, ask(groups, expression), strict=True):
                out.write(f"{label}\t{STEPS}\t{window}\t{text(rows)}\t{answer}\n")


def main():
    print(str(chdb.query("SELECT version()")).strip(), file=sys.stderr)
    for name, seed, ties in [("distinct", 1, False), ("tied", 2, True)]:
        rng = np.random.default_rng(seed)
        groups = list(histories(rng, 120, ties))
        funnels = []
        for words in FUNNELS:
            modes = "".join(f", '{word}'" for word in words.split(",") if word)
            window = int(rng.integers(2, 12))
            funnels.append((words, window, f"windowFunnel({window}{modes})(t, a, b, c)"))
        write(f"{name}_funnels.tsv", groups, funnels)
        sequences = [(f"match {p}", 0, f"sequenceMatch('{p}')(t, a, b, c)") for p in PATTERNS]
        sequences += [(f"count {p}", 0, f"sequenceCount('{p}')(t, a, b, c)") for p in PATTERNS]
        if not ties:
            sequences += [(f"events {p}", 0, f"arrayStringConcat(sequenceMatchEvents('{p}')(t, a, b, c), ' ')") for p in PATTERNS]
        write(f"{name}_sequences.tsv", groups, sequences)
        write(f"{name}_retention.tsv", groups, [("retention", 0, "arrayStringConcat(retention(a, b, c), ' ')")])
        if not ties:
            # The value of a row is its time, so that the order of rows is certain.
            nodes = [(f"{d} {b}", 0, f"ifNull(sequenceNextNode('{d}', '{b}')(toDateTime(t), toString(t), 1, a, b), '-')") for d, b in NEXT]
            write(f"{name}_nodes.tsv", groups, nodes)


if __name__ == "__main__":
    main()
