"""Writes torch_pictures.safetensors: what PyTorch computes with convolutions, pooling and a residual block over small
random pictures, channels last.

Needs torch and safetensors; run it in this folder. `udfs/core/src/models/ops/parity.rs` reads the result.
"""

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(5)
torch.set_num_threads(1)
ROWS, HEIGHT, WIDTH, CHANNELS, MAPS = 3, 7, 5, 4, 6
out = {}


def put(name, **tensors):
    """Stores tensors and, where they have one, their gradients."""
    for key, value in tensors.items():
        out[f"{name}.{key}"] = value.detach().clone().contiguous()
        if value.is_leaf and value.grad is not None:
            out[f"{name}.{key}.grad"] = value.grad.clone().contiguous()


def pictures(channels=CHANNELS):
    return torch.randn(ROWS, HEIGHT, WIDTH, channels, requires_grad=True)


def run(name, x, network, **parameters):
    """Channels first for PyTorch, and back."""
    h = network(x.permute(0, 3, 1, 2))
    h = h.permute(0, 2, 3, 1) if h.dim() == 4 else h
    projection = torch.randn_like(h)
    (h * projection).sum().backward()
    put(name, x=x, h=h, projection=projection, **parameters)


for name, size, stride in (("same", 3, 1), ("half", 3, 2), ("five", 5, 1)):
    conv = nn.Conv2d(CHANNELS, MAPS, size, stride, size // 2)
    run(name, pictures(), nn.Sequential(conv, nn.ReLU()), **dict(conv.named_parameters()))

run("max_pool", pictures(), nn.MaxPool2d(2))
run("mean", pictures(), lambda x: x.mean((2, 3)))

conv, norm = nn.Conv2d(MAPS, MAPS, 3, padding=1, bias=False), nn.BatchNorm2d(MAPS)
nn.init.normal_(norm.weight)
nn.init.normal_(norm.bias)
parameters = {"weight": conv.weight, "norm.weight": norm.weight, "norm.bias": norm.bias}
run("block", pictures(MAPS), lambda x: x + norm(conv(x)).relu(), **parameters)
put("block", **{"norm.running_mean": norm.running_mean, "norm.running_var": norm.running_var})
save_file(out, "torch_pictures.safetensors")
