"""Focal loss and label smoothing as PyTorch computes them: the vectors in udfs/core/src/models/ops/focal.rs."""
import torch

X = torch.tensor([[0.5, -1.25, 2.0], [0.125, 0.75, -0.5], [-3.0, 1.5, 0.25]], dtype=torch.float64)
Y = torch.tensor([2, 0, 1])
for gamma, smoothing, weights in [(2.0, 0.0, None), (2.0, 0.0, [0.5, 2.0, 1.0]), (0.5, 0.0, None), (0.0, 0.1, None), (1.0, 0.2, [0.5, 2.0, 1.0])]:
    x = X.clone().requires_grad_()
    log_p = torch.log_softmax(x, 1)
    if gamma == 0.0 and weights is None:
        loss = torch.nn.functional.cross_entropy(x, Y, label_smoothing=smoothing)
    else:
        q = torch.nn.functional.one_hot(Y, 3).double() * (1 - smoothing) + smoothing / 3
        w = torch.ones(3, dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
        rows = -(q * (1 - log_p.exp()) ** gamma * log_p).sum(1)
        loss = (w * rows).sum() / w.sum()
    loss.backward()
    g = ", ".join(f"{v:.9f}" for v in x.grad.flatten().tolist())
    shown = "None" if weights is None else f"Some({weights})"
    print(f"        (Focal {{ gamma: {gamma}, smoothing: {smoothing} }}, {shown}, {loss.item():.9f}, [{g}]),")
