"""Writes torch_layers.safetensors: what PyTorch computes with simple recurrent layers, layer normalisation, causal
attention and convolutions with a maximum over time, for small random inputs.

Needs torch and safetensors; run it in this folder. `udfs/core/src/models/ops/parity.rs` reads the result.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.manual_seed(21)
torch.set_num_threads(1)
LENGTHS = [7, 3, 1, 7, 2] + [1 + i % 7 for i in range(14)]
ROWS, STEPS, INPUTS, HIDDEN, CLASSES, HEADS = len(LENGTHS), max(LENGTHS), 5, 8, 3, 2
out = {"lengths": torch.tensor(LENGTHS, dtype=torch.float32)}


def put(name, **tensors):
    """Stores tensors and, where they have one, their gradients."""
    for key, value in tensors.items():
        out[f"{name}.{key}"] = value.detach().clone()
        if value.is_leaf and value.grad is not None:
            out[f"{name}.{key}.grad"] = value.grad.clone()


def padded(width):
    """Values of every step; what lies behind a row's last step is never looked at."""
    return torch.randn(ROWS, STEPS, width, requires_grad=True)


for kind in ("tanh", "relu"):
    name = f"rnn_{kind}"
    net = nn.RNN(INPUTS, HIDDEN, num_layers=2, nonlinearity=kind, batch_first=True)
    x, projection = padded(INPUTS), torch.randn(ROWS, STEPS, HIDDEN)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    h, _ = pad_packed_sequence(net(packed)[0], batch_first=True)
    (h * projection).sum().backward()
    put(name, x=x, projection=projection, h=h, **dict(net.named_parameters()))
    # Twenty AdamW steps on one batch: cell, loss and optimizer together.
    head = nn.Linear(HIDDEN, CLASSES)
    out |= {f"{name}.head.weight": head.weight.detach().clone(), f"{name}.head.bias": head.bias.detach().clone()}
    targets = torch.arange(ROWS) % CLASSES
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=1e-2, weight_decay=0.1)
    last, losses = torch.tensor(LENGTHS) - 1, []
    packed = pack_padded_sequence(x.detach(), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    for _ in range(20):
        optimizer.zero_grad()
        h, _ = pad_packed_sequence(net(packed)[0], batch_first=True)
        loss = nn.functional.cross_entropy(head(h[torch.arange(ROWS), last]), targets)
        loss.backward()
        nn.utils.clip_grad_norm_([*net.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        losses.append(loss.item())
    out[f"{name}.losses"] = torch.tensor(losses)

# Only steps within a row's length count.
present = torch.arange(STEPS)[None, :, None] < torch.tensor(LENGTHS)[:, None, None]

norm = nn.LayerNorm(HIDDEN)
nn.init.normal_(norm.weight)
nn.init.normal_(norm.bias)
x, projection = padded(HIDDEN), torch.randn(ROWS, STEPS, HIDDEN)
h = norm(x)
(h * projection * present).sum().backward()
put("norm", x=x, projection=projection, h=h, weight=norm.weight, bias=norm.bias)

q, kv, projection = padded(HIDDEN), padded(2 * HIDDEN), torch.randn(ROWS, STEPS, HIDDEN)
split = [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, *kv.chunk(2, -1))]
h = nn.functional.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
(h * projection * present).sum().backward()
put("attention", q=q, kv=kv, projection=projection, h=h)

for taps in (2, 3):
    conv = nn.Conv1d(INPUTS, HIDDEN, taps, padding="same")
    x, projection = padded(INPUTS), torch.randn(ROWS, HIDDEN)
    rows = [conv(x[row, :length].T[None])[0] for row, length in enumerate(LENGTHS)]
    h = torch.stack([row.amax(-1) for row in rows]).relu()
    (h * projection).sum().backward()
    put(f"conv_{taps}", x=x, projection=projection, h=h, weight=conv.weight, bias=conv.bias)

save_file(out, "torch_layers.safetensors")
