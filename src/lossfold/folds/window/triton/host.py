"""The window fold's operators on GPUs: how a call is cut into programs, and the kernels that they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import added, launch, narrowed, options, warp
from lossfold.folds.window.triton import kernels


def fold(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float
) -> Tensor:  # fmt: skip
    """Implement ``window_fold``."""
    images, channels = pred.shape[:2]
    if not pred.numel():
        return pred.new_zeros((images, 3, channels), dtype=torch.float64)
    height, width = (side - len(window) + 1 for side in pred.shape[2:])
    planes, (block, warps) = images * channels, _block(width)
    blocks = math.ceil(width / block)
    rows = _rows(planes * blocks, height)
    programs = blocks * math.ceil(height / rows)
    tensors, fixed = _read(pred, target, weight, window, c1, c2)
    part = torch.empty((planes, programs, 3), dtype=torch.float64, device=pred.device)
    numbers = (blocks, programs, channels, *pred.shape[2:], height, width, *pred.stride(), *target.stride())
    fixed |= {"BLOCK": block, "ROWS": rows, **options(warps)}
    launch(kernels.fold_window, (programs * planes,), *tensors, part, *numbers, **fixed)
    nothing = torch.empty(0, dtype=torch.int32, device=pred.device)
    return added(part, nothing, "", channels).view(images, 3, channels)


def unfold(
    grad_sums: Tensor | None, pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float
) -> Tensor:  # fmt: skip
    """Implement ``window_unfold``."""
    assert grad_sums is not None
    result = torch.empty_like(pred)
    if not pred.numel():
        return result
    images, channels, height, width = pred.shape
    reach = len(window) - 1
    planes, (block, warps) = images * channels, _block(width + reach)
    blocks = math.ceil(width / (block - reach))
    rows = _rows(planes * blocks, height)
    programs = blocks * math.ceil(height / rows)
    tensors, fixed = _read(pred, target, weight, window, c1, c2)
    beside = torch.empty((planes * programs, 2, 3, block), dtype=torch.float32, device=pred.device)
    places = (height - reach, width - reach)
    numbers = (blocks, programs, channels, height, width, *places, *pred.stride(), *target.stride(), *result.stride())
    fixed |= {"BLOCK": block, "ROWS": rows, **options(warps)}
    launch(kernels.unfold_window, (programs * planes,), narrowed(grad_sums), *tensors, beside, result, *numbers, **fixed)
    return result


def _block(width: int) -> tuple[int, int]:
    """Return the columns that a program takes, and its warps."""
    block = 2 * warp()
    while block < 4 * warp() and block < width:
        block *= 2
    return block, block // warp()


def _rows(columns: int, height: int) -> int:
    """Return the rows that a program walks down: many, where there are columns enough."""
    rows = 64 if columns * math.ceil(height / 64) >= 512 else 16
    return min(rows, max(2, 1 << (height - 1).bit_length()))


def _read(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return images and weights as kernels read them, and what these are compiled for."""
    target = target.view(torch.uint8) if target.dtype == torch.bool else target
    w = pred if weight is None else weight.contiguous()
    w = w.view(torch.uint8) if w.dtype == torch.bool else w
    each = weight is not None and weight.shape[1] > 1
    return (pred, target, w), {"TAPS": tuple(window), "C1": c1, "C2": c2, "HAS_W": weight is not None, "EACH": each}
