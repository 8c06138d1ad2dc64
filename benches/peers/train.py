"""The networks of benches/train.rs in PyTorch: examples per second of one training step, and of scoring (by ONNX
Runtime too).

Prints one JSON object: {"<what> <network> batch <n>": examples/s, ...}; "onnx int8" is ONNX Runtime with weights of 8
bits (dynamic quantisation). Embedding(10000, 32) over 100 events (50 for the
transformer), the network, a dense layer of the same width with relu, 10 classes; the dnn reads 64 numbers, the cnn
28 by 28 pixels of grey. Adam 1e-3.
"""

import argparse
import json
import tempfile
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


class Block(nn.Module):
    """A causal layer that normalises first. The last one asks for the last event only, as ours does."""

    def __init__(self, width, heads, last):
        super().__init__()
        self.heads, self.last = heads, last
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.attended = nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        normal = self.norm1(x)
        key, value = self.key_value(normal).chunk(2, -1)
        if self.last:
            x, normal = x[:, -1:], normal[:, -1:]
        query, key, value = self.split(self.query(normal)), self.split(key), self.split(value)
        heard = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=not self.last)
        x = x + self.attended(heard.transpose(1, 2).flatten(2))
        return x + self.linear2(torch.relu(self.linear1(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, width, layers, events, classes):
        super().__init__()
        self.embedding = nn.Embedding(10_000, 32)
        self.input = nn.Linear(32, width)
        self.positions = nn.Parameter(torch.randn(events, width) * 0.1)
        self.layers = nn.Sequential(*(Block(width, width // 32, layer + 1 == layers) for layer in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, tokens):
        x = self.layers(self.input(self.embedding(tokens)) + self.positions)
        return self.head(self.norm(x[:, -1]))


class Scaled(nn.Module):
    """A dense layer between two learned scalings: a batch ensemble of one member."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.scale_in, self.scale_out = nn.Parameter(torch.ones(inputs)), nn.Parameter(torch.ones(outputs))

    def forward(self, x):
        return torch.relu(nn.functional.linear(x * self.scale_in, self.linear.weight) * self.scale_out + self.linear.bias)


class Convolution(nn.Module):
    """A convolution with batch normalisation and relu, added to its input where the widths agree."""

    def __init__(self, inputs, maps):
        super().__init__()
        self.conv = nn.Conv2d(inputs, maps, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(maps)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return x + y if x.shape == y.shape else y


class Pictures(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        stages = [Convolution(1, width)]
        for inputs in (width, 2 * width):
            stages += [nn.MaxPool2d(2), Convolution(inputs, 2 * inputs), Convolution(2 * inputs, 2 * inputs)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, classes))

    def forward(self, pictures):
        return self.head(self.stages(pictures).mean((2, 3)))


def rate(step, batch, seconds):
    for _ in range(3):
        step()
    best = 0.0
    for _ in range(3):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 3:
            step()
            count += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = max(best, count * batch / (time.perf_counter() - began))
    return best


def onnx_rates(network, inputs, threads, seconds):
    """Scoring by ONNX Runtime with weights of 32 and of 8 bits; None where the packages are missing."""
    try:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        return None, None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    given = {"x": inputs.numpy()}

    def measure(file):
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return rate(lambda: session.run(None, given), len(inputs), seconds)

    with tempfile.TemporaryDirectory() as folder:
        floats, bytes_ = f"{folder}/floats.onnx", f"{folder}/bytes.onnx"
        torch.onnx.export(network, (inputs,), floats, input_names=["x"], dynamo=False)
        quantize_dynamic(floats, bytes_, weight_type=QuantType.QInt8)
        try:
            small = measure(bytes_)
        except Exception:  # some networks have operators that the runtime has no 8-bit version of
            small = None
        return measure(floats), small


def gemm_peak(seconds):
    """GFLOP/s of a square product of 2048."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return rate(lambda: a @ b, 1, seconds) * 2 * 2048**3 / 1e9


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=9)
    parser.add_argument("--only", default="", help="networks whose names start so")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rows", default="32,256", help="rows of a batch")
    parser.add_argument("--tf32", action="store_true", help="products in TF32, on a GPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    networks = {
        "lstm 2x128": Recurrent(nn.LSTM, 128, 2, 10),
        "gru 64": Recurrent(nn.GRU, 64, 1, 10),
        "rnn 64": Recurrent(nn.RNN, 64, 1, 10),
        "transformer 2x64": Transformer(64, 2, 50, 10),
        "cnn 32": Pictures(32, 10).to(memory_format=torch.channels_last),
        "dnn 2x256": nn.Sequential(Scaled(64, 256), Scaled(256, 256), nn.Linear(256, 10)),
    }
    results = {"gemm peak gflops": gemm_peak(options.seconds / 3)}
    for name, network in networks.items():
        if not name.startswith(options.only):
            continue
        network.to(device)
        for batch in map(int, options.rows.split(",")):
            events = 50 if name.startswith("transformer") else 100
            if name.startswith("dnn"):
                inputs = torch.randn(batch, 64)
            elif name.startswith("cnn"):
                inputs = torch.randn(batch, 1, 28, 28).contiguous(memory_format=torch.channels_last)
            else:
                inputs = torch.randint(0, 10_000, (batch, events))
            inputs, labels = inputs.to(device), torch.randint(0, 10, (batch,)).to(device)
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

            def step():
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(network(inputs), labels).backward()
                optimizer.step()

            results[f"train {name} batch {batch}"] = rate(step, batch, options.seconds)
        network.eval()
        with torch.inference_mode():
            results[f"score {name} batch {batch}"] = rate(lambda: network(inputs), batch, options.seconds)
            # The runtime's packages here run on the CPU.
            runtime = onnx_rates(network.eval(), inputs, options.threads, options.seconds) if device.type == "cpu" else ()
            for kind, found in zip(("onnx", "onnx int8"), runtime):
                if found:
                    results[f"{kind} {name} batch {batch}"] = found
    print(json.dumps(results))


if __name__ == "__main__":
    main()
