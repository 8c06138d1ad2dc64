"""Vectors of the operators that generators and critics have, as PyTorch computes them. Writes torch_generative.safetensors.

For each operator: inputs, result `h`, a projection, and the gradients of `(h * projection).sum()`.
"""

import torch
from safetensors.torch import save_file

torch.manual_seed(3)
out = {}


def last(x):
    return x.permute(0, 2, 3, 1).contiguous()


for name, size, stride, padding in [("double", 4, 2, 1), ("plain", 3, 1, 1)]:
    layer = torch.nn.ConvTranspose2d(5, 3, size, stride, padding)
    x = torch.randn(2, 5, 3, 4, requires_grad=True)
    h = torch.tanh(layer(x))
    projection = torch.randn_like(h)
    (h * projection).sum().backward()
    out |= {
        f"{name}.x": last(x.detach()),
        f"{name}.weight": layer.weight.detach().clone(),
        f"{name}.bias": layer.bias.detach().clone(),
        f"{name}.h": last(h.detach()),
        f"{name}.projection": last(projection),
        f"{name}.x.grad": last(x.grad),
        f"{name}.weight.grad": layer.weight.grad.clone(),
        f"{name}.bias.grad": layer.bias.grad.clone(),
    }

# The gradient penalty of WGAN-GP by double backpropagation.
shapes = {"w1": (6, 4), "b1": (6,), "w2": (5, 6), "b2": (5,), "w3": (1, 5)}
w = {key: torch.randn(*shape, requires_grad=True) for key, shape in shapes.items()}
x = torch.randn(7, 4, requires_grad=True)
hidden = torch.nn.functional.leaky_relu(x @ w["w1"].T + w["b1"], 0.2)
hidden = torch.nn.functional.leaky_relu(hidden @ w["w2"].T + w["b2"], 0.2)
(slope,) = torch.autograd.grad((hidden @ w["w3"].T).sum(), x, create_graph=True)
penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
penalty.backward()
out |= {f"penalty.{key}": value.detach().clone() for key, value in w.items()}
out |= {f"penalty.{key}.grad": w[key].grad.clone() for key in ["w1", "w2", "w3"]}
out |= {"penalty.x": x.detach().clone(), "penalty.h": penalty.detach().reshape(1)}

# Adam with other decays, three steps.
p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
adam = torch.optim.Adam([p], lr=0.01, betas=(0.5, 0.9))
for step in range(3):
    p.grad = torch.tensor([0.5 - step, step * 0.25 + 1.0, 2.0])
    adam.step()
out["adam.h"] = p.detach().clone()

save_file(out, "torch_generative.safetensors")
