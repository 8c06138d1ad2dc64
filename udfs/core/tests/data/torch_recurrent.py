"""Writes torch_recurrent.safetensors: what torch.nn.GRU and torch.nn.LSTM compute for small random inputs.

Needs torch and safetensors; run it in this folder. `udfs/core/src/models/ops/parity.rs` reads the result.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.manual_seed(20)
torch.set_num_threads(1)
LENGTHS = [7, 3, 1, 7, 2] + [1 + i % 7 for i in range(14)]
INPUTS, HIDDEN, CLASSES = 5, 8, 3
out = {}
for name, layer in (("gru", nn.GRU), ("lstm", nn.LSTM)):
    rows, steps = len(LENGTHS), max(LENGTHS)
    net = layer(INPUTS, HIDDEN, num_layers=2, batch_first=True)
    x = torch.randn(rows, steps, INPUTS, requires_grad=True)
    projection = torch.randn(rows, steps, HIDDEN)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    h, _ = pad_packed_sequence(net(packed)[0], batch_first=True)
    (h * projection).sum().backward()
    out |= {f"{name}.x": x.detach(), f"{name}.projection": projection, f"{name}.h": h.detach(), f"{name}.x.grad": x.grad}
    for key, value in net.named_parameters():
        out[f"{name}.{key}"] = value.detach().clone()
        out[f"{name}.{key}.grad"] = value.grad.clone()
    # Twenty AdamW steps on one batch: cell, loss and optimizer together.
    head = nn.Linear(HIDDEN, CLASSES)
    out |= {f"{name}.head.weight": head.weight.detach().clone(), f"{name}.head.bias": head.bias.detach().clone()}
    targets = torch.arange(rows) % CLASSES
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=1e-2, weight_decay=0.1)
    last = torch.tensor(LENGTHS) - 1
    losses = []
    packed = pack_padded_sequence(x.detach(), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    for _ in range(20):
        optimizer.zero_grad()
        h, _ = pad_packed_sequence(net(packed)[0], batch_first=True)
        loss = nn.functional.cross_entropy(head(h[torch.arange(rows), last]), targets)
        loss.backward()
        nn.utils.clip_grad_norm_([*net.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        losses.append(loss.item())
    out[f"{name}.losses"] = torch.tensor(losses)
out["lengths"] = torch.tensor(LENGTHS, dtype=torch.float32)
save_file(out, "torch_recurrent.safetensors")
