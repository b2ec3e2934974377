"""The window fold's operators; see :mod:`lossfold.folds.label.operators`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.engines.native import check_codes
from lossfold.engines.operators import FoldOperators
from lossfold.folds.window import definition
from lossfold.folds.window.spec import KINDS


def fold(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float, whole: bool = True
) -> Tensor:
    """Compute :func:`lossfold.folds.window.definition.fold` by an operator, which has no less for contrast alone."""
    sums: Tensor = OPERATORS.fold((pred, target, weight), (list(window), c1, c2))
    return sums


def once(
    pred: Tensor, target: Tensor, weight: Tensor | None, above: Tensor, window: Sequence[float], c1: float, c2: float, border: int
) -> Tensor:
    """Return SSIM's errors and absolute differences of images with a border of zeros, times factors, whose gradient the pass finds.

    Args:
        pred, target: ``[B, C, H, W]``.
        weight: of pixels, ``[B, 1, H, W]`` or ``[B, C, H, W]``; a place has that of the pixel in its middle.
        above: the factors of ONCE, ``[2, C]``.
        window, c1, c2: as for the fold.
        border: the window's radius, or 0 where it is to fit in the image.
    """
    return OPERATORS.once((pred, target, weight, above, None), (list(window), c1, c2, border))


def _definition(*arguments: Any) -> tuple[Tensor]:
    return (definition.fold(*arguments),)


def _shapes(pred: Tensor, *rest: Any) -> Tensor:
    return pred.new_empty((pred.shape[0], len(KINDS), pred.shape[1]), dtype=torch.float64)


def _on_gpus() -> Any:
    from lossfold.folds.window.triton import host

    return host


OPERATORS = FoldOperators(
    "window",
    "Tensor pred, Tensor target, Tensor? weight",
    "float[] window, float c1, float c2",
    ("sums",),
    (),
    _definition,
    _shapes,
)
OPERATORS.on_gpus(_on_gpus)
OPERATORS.with_once("float[] window, float c1, float c2, int border", definition.once)  # of CPUs
check_codes("window", kinds=KINDS)
