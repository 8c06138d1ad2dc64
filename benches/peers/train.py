"""The networks of benches/train.rs in PyTorch: examples per second of one training step, and of scoring.

Prints one JSON object: {"<network> batch <n>": examples/s, ...}. Embedding(10000, 32) over 100 events, the recurrent
layers, a dense layer of the same width with relu, 10 classes; Adam 1e-3.
"""

import argparse
import json
import time

import torch
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, kind, hidden, layers, classes):
        super().__init__()
        self.embedding = nn.Embedding(10_000, 32)
        self.rnn = kind(32, hidden, layers, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, tokens):
        out, _ = self.rnn(self.embedding(tokens))
        return self.head(out[:, -1])


def rate(step, batch, seconds):
    for _ in range(3):
        step()
    best = 0.0
    for _ in range(3):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 3:
            step()
            count += 1
        best = max(best, count * batch / (time.perf_counter() - began))
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    networks = {
        "lstm 2x128": Recurrent(nn.LSTM, 128, 2, 10),
        "gru 64": Recurrent(nn.GRU, 64, 1, 10),
    }
    results = {}
    for name, network in networks.items():
        for batch in (32, 256):
            tokens, labels = torch.randint(0, 10_000, (batch, 100)), torch.randint(0, 10, (batch,))
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

            def step():
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(network(tokens), labels).backward()
                optimizer.step()

            results[f"train {name} batch {batch}"] = rate(step, batch, options.seconds)
        with torch.inference_mode():
            results[f"score {name} batch 256"] = rate(lambda: network(tokens), 256, options.seconds)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
