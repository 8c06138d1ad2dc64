"""The work of benches/audience.rs in CRoaring (through pyroaring) and in ClickHouse (chdb), over the same ids.

Usage: audience.py croaring|clickhouse [--users N] [--repeat N]
"""

import argparse
import json
import time

AUDIENCES = [2_654_435_761, 2_246_822_519]


def best(repeat, work):
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) * 1e3, answer


def croaring(users, repeat):
    import numpy
    from pyroaring import BitMap64

    results = {}
    for name, spread in [("dense", 1), ("spread", 397)]:
        all_users = numpy.arange(users, dtype=numpy.uint64)
        ids = [all_users[(all_users * numpy.uint64(m)) & numpy.uint64(0x80000000) == 0] * numpy.uint64(spread) for m in AUDIENCES]
        a, b = (BitMap64(part) for part in ids)
        x, y = a.serialize(), b.serialize()
        results[f"{name} and cardinality_ms"], results[f"{name} overlap"] = best(repeat, lambda: a.intersection_cardinality(b))
        both = lambda: BitMap64.deserialize(x).intersection_cardinality(BitMap64.deserialize(y))
        results[f"{name} and cardinality from bytes_ms"] = best(repeat, both)[0]
        results[f"{name} and to bytes_ms"] = best(repeat, lambda: (BitMap64.deserialize(x) & BitMap64.deserialize(y)).serialize())[0]
        results[f"{name} bytes"] = len(x)
        results[f"{name} group_bitmap in order_ms"] = best(repeat, lambda: BitMap64(ids[0]))[0]
        shuffled = numpy.random.default_rng(3).permutation(ids[0])
        results[f"{name} group_bitmap shuffled_ms"] = best(repeat, lambda: BitMap64(shuffled))[0]
    return results


def clickhouse(users, repeat):
    from chdb import session

    server = session.Session()
    ask = lambda sql: json.loads(server.query(sql + " SETTINGS max_threads = 1", "JSONCompact").bytes())["data"]
    run = lambda sql: server.query(sql)
    run("CREATE DATABASE bench")
    results = {}
    for name, spread in [("dense", 1), ("spread", 397)]:
        for at, multiplier in enumerate(AUDIENCES):
            run(f"CREATE TABLE bench.{name}{at} (id UInt64) ENGINE = Memory")
            run(f"INSERT INTO bench.{name}{at} SELECT number * {spread} FROM numbers({users}) WHERE bitAnd(number * {multiplier}, 2147483648) = 0")
            run(f"CREATE TABLE bench.{name}_set{at} (ids AggregateFunction(groupBitmap, UInt64)) ENGINE = Memory")
            run(f"INSERT INTO bench.{name}_set{at} SELECT groupBitmapState(id) FROM bench.{name}{at}")
        run(f"CREATE TABLE bench.{name}_shuffled (id UInt64) ENGINE = Memory")
        run(f"INSERT INTO bench.{name}_shuffled SELECT id FROM bench.{name}0 ORDER BY sipHash64(id)")
        both = f"SELECT bitmapAndCardinality((SELECT ids FROM bench.{name}_set0), (SELECT ids FROM bench.{name}_set1))"
        results[f"{name} and cardinality from bytes_ms"], answer = best(repeat, lambda: ask(both))
        results[f"{name} overlap"] = int(answer[0][0])
        results[f"{name} group_bitmap in order_ms"] = best(repeat, lambda: ask(f"SELECT groupBitmap(id) FROM bench.{name}0"))[0]
        results[f"{name} group_bitmap shuffled_ms"] = best(repeat, lambda: ask(f"SELECT groupBitmap(id) FROM bench.{name}_shuffled"))[0]
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["croaring", "clickhouse"])
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    print(json.dumps({"croaring": croaring, "clickhouse": clickhouse}[options.engine](options.users, options.repeat)))


if __name__ == "__main__":
    main()
