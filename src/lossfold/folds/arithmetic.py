"""What the definitions of all folds are made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PROBABILITY_FLOOR = 1e-12  # with link="identity": -log p is -log(max(p, floor)), flat below


def resize(scores: Tensor, space: torch.Size, align_corners: bool) -> Tensor:
    """Return scores in the dtype that is computed in, at the targets' resolution."""
    scores = scores.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)
    if scores.shape[2:] == space:
        return scores
    return functional.interpolate(scores.contiguous(), space, mode="bilinear", align_corners=align_corners)


def clamped(p: Tensor) -> Tensor:
    """Take probabilities into [0, 1]; the gradient passes where they are there already, ends included."""
    return torch.where((p < 0) | (p > 1), p.detach().clamp(0, 1), p)


def total_dtype(tensor: Tensor) -> torch.dtype:
    """Return what sums are totalled in: float64, or float32 on devices without it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def total(share: Tensor, block: int = 1024) -> Tensor:
    """Sum the last dimension: in its own dtype within blocks, in float64 over them."""
    dtype = total_dtype(share)
    if share.shape[-1] < block:
        return share.sum(-1, dtype=dtype)
    whole = share.shape[-1] // block * block
    blocks = share[..., :whole].reshape(*share.shape[:-1], whole // block, block).sum(-1)
    all_of_it: Tensor = blocks.sum(-1, dtype=dtype) + share[..., whole:].sum(-1, dtype=dtype)
    return all_of_it
