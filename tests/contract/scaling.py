"""Steps of a small network under autocast with scaled gradients, as PyTorch's recipe has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.contract.case import value

HALVES = [torch.bfloat16, torch.float16]


def network(channels: int) -> nn.Conv2d:
    """Nearly the identity, so that its output is what the loss wants."""
    layer = nn.Conv2d(channels, channels, 1)
    with torch.no_grad():
        layer.weight.copy_(0.98 * torch.eye(channels)[:, :, None, None])
        layer.bias.fill_(0.004)
    return layer


def step(layer: nn.Module, scaler: Any, optimizer: Any, loss: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """One step as PyTorch's recipe has it; returns the value."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.float16):
        scores = layer(images)
        result = loss(scores)
        total = value(getattr(result, "total", result))
    assert scores.dtype == torch.float16 and total.dtype == torch.float32
    scaler.scale(total).backward()
    scaler.step(optimizer)
    scaler.update()
    return total.detach()


def train(loss: Callable[[Tensor], Any], images: Tensor) -> None:
    """Three steps at a usual scale, then one at a scale that no half holds."""
    layer = network(images.shape[1])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    result = loss(layer(images))
    plain = torch.autograd.grad(value(getattr(result, "total", result)), list(layer.parameters()))
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    for number in range(3):
        before = [parameter.detach().clone() for parameter in layer.parameters()]
        assert torch.isfinite(step(layer, scaler, optimizer, loss, images))
        moved = torch.cat([(old - new).detach().flatten() for old, new in zip(before, layer.parameters(), strict=True)])
        assert torch.isfinite(moved).all() and moved.any()
        if number == 0:
            slope = torch.cat([gradient.flatten() for gradient in plain])
            assert float((moved / 1e-3 - slope).norm() / slope.norm()) < 0.05
    assert scaler.get_scale() == 512.0
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    broken: Any = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    step(layer, broken, optimizer, loss, images)
    assert broken.get_scale() == 2.0**59
    assert all(torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))
