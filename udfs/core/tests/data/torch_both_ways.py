"""Writes torch_both_ways.safetensors: what bidirectional torch.nn.GRU, LSTM and RNN compute for small random inputs of
different lengths.

Needs torch and safetensors; run it in this folder. `udfs/core/src/models/ops/parity_both_ways.rs` reads the result.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.manual_seed(22)
torch.set_num_threads(1)
LENGTHS = [7, 3, 1, 7, 2] + [1 + i % 7 for i in range(14)]
ROWS, STEPS, INPUTS, HIDDEN = len(LENGTHS), max(LENGTHS), 5, 6
out = {"lengths": torch.tensor(LENGTHS, dtype=torch.float32)}
layers = {
    "gru": nn.GRU(INPUTS, HIDDEN, num_layers=2, batch_first=True, bidirectional=True),
    "lstm": nn.LSTM(INPUTS, HIDDEN, num_layers=2, batch_first=True, bidirectional=True),
    "rnn_tanh": nn.RNN(INPUTS, HIDDEN, num_layers=2, batch_first=True, bidirectional=True, nonlinearity="tanh"),
    "rnn_relu": nn.RNN(INPUTS, HIDDEN, num_layers=2, batch_first=True, bidirectional=True, nonlinearity="relu"),
}
for name, net in layers.items():
    x = torch.randn(ROWS, STEPS, INPUTS, requires_grad=True)
    projection, last_projection = torch.randn(ROWS, STEPS, 2 * HIDDEN), torch.randn(ROWS, 2 * HIDDEN)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    h, last = net(packed)
    h, _ = pad_packed_sequence(h, batch_first=True)
    # The last layer's states where each direction ends: [rows, 2 · hidden].
    last = (last[0] if isinstance(last, tuple) else last)[-2:].transpose(0, 1).reshape(ROWS, 2 * HIDDEN)
    ((h * projection).sum() + (last * last_projection).sum()).backward()
    out |= {f"{name}.x": x.detach(), f"{name}.x.grad": x.grad, f"{name}.h": h.detach(), f"{name}.projection": projection}
    out |= {f"{name}.last": last.detach().clone(), f"{name}.last_projection": last_projection}
    for key, value in net.named_parameters():
        out |= {f"{name}.{key}": value.detach().clone(), f"{name}.{key}.grad": value.grad.clone()}
save_file(out, "torch_both_ways.safetensors")
