"""The pipeline of benches/pipeline.rs, written in plain DuckDB and PyTorch: from Parquet events to scored users.

Usage: pipeline.py LOG_FOLDER OUT.parquet [--train-users N] [--epochs N] [--threads N]

Prints one JSON object with the same keys as the Rust bench: seconds, examples/s, users/s, peak memory.
The work is the same: the last 50 events of each user before the anchor (type, category, item hashed to 10,000; log time
gap), a GRU of 64 over 32-wide embeddings, Adam 1e-3, batch 256, binary cross-entropy on "purchase within 14 days".
"""

import argparse
import json
import resource
import time

import duckdb
import numpy as np
import torch
from torch import nn

DAY = 86_400
LENGTH, ITEMS, HORIZON = 50, 10_000, 14 * DAY


class Gru(nn.Module):
    def __init__(self, types, categories):
        super().__init__()
        self.kind, self.category, self.item = nn.Embedding(types + 2, 32), nn.Embedding(categories + 2, 32), nn.Embedding(ITEMS + 2, 32)
        self.gap = nn.Linear(1, 32)
        self.gru = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, tokens, gaps, lengths):
        x = self.kind(tokens[..., 0]) + self.category(tokens[..., 1]) + self.item(tokens[..., 2]) + self.gap(gaps.unsqueeze(-1))
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        _, hidden = self.gru(packed)
        return self.head(hidden[-1]).squeeze(-1)


def histories(connection, folder, anchor, sample):
    """Streams users' last events before `anchor` as arrays, with the label of the following horizon."""
    keep = f"AND hash(user_id) % 1000 < {sample}" if sample < 1000 else ""
    return connection.execute(
        f"""
        SELECT user_id,
               list(CASE event_type WHEN 'view' THEN 2 WHEN 'cart' THEN 3 ELSE 4 END ORDER BY t)
                   FILTER (t <= {anchor})[-{LENGTH}:] AS types,
               list(substr(category, 2)::INT + 2 ORDER BY t) FILTER (t <= {anchor})[-{LENGTH}:] AS categories,
               list(hash(item_id) % {ITEMS} + 2 ORDER BY t) FILTER (t <= {anchor})[-{LENGTH}:] AS items,
               list(t ORDER BY t) FILTER (t <= {anchor})[-{LENGTH}:] AS times,
               coalesce(bool_or(event_type = 'purchase') FILTER (t > {anchor} AND t <= {anchor + HORIZON}), false) AS label
        FROM (SELECT *, epoch(event_time)::BIGINT AS t FROM read_parquet('{folder}/*.parquet')) WHERE true {keep}
        GROUP BY user_id HAVING count(*) FILTER (t <= {anchor}) > 0
        """
    )


def arrays(rows):
    count = len(rows)
    tokens, gaps = np.zeros((count, LENGTH, 3), np.int64), np.zeros((count, LENGTH), np.float32)
    lengths, labels = np.zeros(count, np.int64), np.zeros(count, np.float32)
    for n, (_, types, categories, items, times, label) in enumerate(rows):
        k = len(types)
        tokens[n, :k, 0], tokens[n, :k, 1], tokens[n, :k, 2] = types, categories, items
        gaps[n, 1:k] = np.log1p(np.diff(np.asarray(times, np.float64)))
        lengths[n], labels[n] = k, label
    return torch.from_numpy(tokens), torch.from_numpy(gaps), torch.from_numpy(lengths), torch.from_numpy(labels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--sample", type=int, default=100, help="users trained on, per thousand")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(42)
    connection = duckdb.connect()
    connection.execute(f"SET threads = {options.threads}")

    began = time.perf_counter()
    (watermark,) = connection.execute(f"SELECT epoch(max(event_time))::BIGINT FROM read_parquet('{options.folder}/*.parquet')").fetchone()
    rows = []
    for anchor in (watermark - 3 * HORIZON, watermark - 4 * HORIZON):
        rows += histories(connection, options.folder, anchor, options.sample).fetchall()
    tokens, gaps, lengths, labels = arrays(rows)
    prepared = time.perf_counter()

    model = Gru(3, 200)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen = 0
    for _ in range(options.epochs):
        for batch in torch.randperm(len(labels)).split(256):
            optimizer.zero_grad(set_to_none=True)
            longest = int(lengths[batch].max())
            loss = nn.functional.binary_cross_entropy_with_logits(
                model(tokens[batch, :longest], gaps[batch, :longest], lengths[batch]), labels[batch]
            )
            loss.backward()
            optimizer.step()
            seen += len(batch)
    trained = time.perf_counter()

    model.eval()
    cursor = histories(connection, options.folder, watermark, 1000)
    users, scores = [], []
    with torch.no_grad():
        while chunk := cursor.fetchmany(8192):
            tokens, gaps, lengths, _ = arrays(chunk)
            users.extend(row[0] for row in chunk)
            scores.append(torch.sigmoid(model(tokens, gaps, lengths)).numpy())
    result = {"user_id": np.asarray(users), "probability": np.concatenate(scores)}
    connection.execute("CREATE TABLE scored AS SELECT unnest(?) AS user_id, unnest(?) AS probability", [result["user_id"], result["probability"]])
    connection.execute(f"COPY scored TO '{options.out}' (FORMAT parquet)")
    scored = time.perf_counter()

    print(
        json.dumps(
            {
                "parquet_to_scored_seconds": scored - began,
                "prepare_seconds": prepared - began,
                "train_examples_per_second": seen / (trained - prepared),
                "score_users_per_second": len(users) / (scored - trained),
                "users": len(users),
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
