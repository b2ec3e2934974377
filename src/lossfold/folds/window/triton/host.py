"""The window fold's operators on GPUs: how a call is cut into programs, and the kernels that they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.gpu.launch import added, launch, narrowed, options, rows_of, warp
from lossfold.folds.window.triton import kernels

MOST_OWED = 2**24  # numbers between the two steps of a gradient, of as many planes as that allows


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
    rows = rows_of(planes * blocks, height)
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
    places = (height - len(window) + 1, width - len(window) + 1)
    planes, (block, warps) = images * channels, _block(places[1])
    blocks = math.ceil(places[1] / block)
    rows = rows_of(planes * blocks, height)
    owing = blocks * math.ceil(height / rows)
    tensors, fixed = _read(pred, target, weight, window, c1, c2)
    g, size = narrowed(grad_sums), height * places[1]
    lines = max(1, min(planes, MOST_OWED // (3 * size)))
    owed = torch.empty((3, lines, height, places[1]), dtype=torch.float32, device=pred.device)
    shift = torch.empty((lines, owing, 2), dtype=torch.float32, device=pred.device)
    each = 4 * warp()
    programs = math.ceil(height * width / each)
    strides = (*pred.stride(), *target.stride())
    for first in range(0, planes, lines):
        count = min(lines, planes - first)
        numbers = (first, lines, blocks, owing, channels, height, width, *places, *strides)
        cut = {"BLOCK": block, "ROWS": rows}
        launch(kernels.owe, (owing * count,), g, *tensors, owed, shift, *numbers, **fixed, **cut, **options(warps))
        numbers = (first, lines, programs, blocks, owing, channels, height, width, places[1], *strides, *result.stride())
        cut = {"TAPS": fixed["TAPS"], "OF": block, "ROWS": rows, "BLOCK": each}
        launch(kernels.unfold_window, (programs * count,), *tensors[:2], owed, shift, result, *numbers, **cut, **options(4))
    return result


def _block(width: int) -> tuple[int, int]:
    """Return the columns that a program takes, and its warps."""
    block = 2 * warp()
    while block < 4 * warp() and block < width:
        block *= 2
    return block, block // warp()


def _read(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return images and weights as kernels read them, and what these are compiled for."""
    target = target.view(torch.uint8) if target.dtype == torch.bool else target
    w = pred if weight is None else weight.contiguous()
    w = w.view(torch.uint8) if w.dtype == torch.bool else w
    each = weight is not None and weight.shape[1] > 1
    return (pred, target, w), {"TAPS": tuple(window), "C1": c1, "C2": c2, "HAS_W": weight is not None, "EACH": each}
