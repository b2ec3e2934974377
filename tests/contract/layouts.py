"""Ways in which the same numbers may lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Channels innermost in memory, whatever the rank."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.ndim > 3 else x.mT.contiguous().mT


def sliced(x: Tensor) -> Tensor:
    """Every second element along the last dimension of a wider tensor, at an odd offset."""
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7, dtype=x.dtype)
    wide[..., 1::2] = x
    return wide[..., 1::2]


def transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT


def batch_innermost(x: Tensor) -> Tensor:
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def offset(x: Tensor) -> Tensor:
    """Contiguous, but not aligned to a vector."""
    flat = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
    return flat.copy_(x.reshape(-1)).view(x.shape)


LAYOUTS = [channels_last, sliced, transposed, batch_innermost, offset]
