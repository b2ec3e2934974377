"""Distances to where masks end, of masks with pixels that do not count: what losses of shapes weigh errors with."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.shapes.distances import NOBODY, _run

Steps = list[list[float]]
"""Each sample's spacing along each axis."""


def depth(mask: Tensor, counted: Tensor | None, steps: Steps, wide: bool) -> Tensor:
    """Return the distance of each pixel to the nearest one that counts and is on the other side; 0 where there is none.

    Args:
        mask: bool ``[B, K, *S]``.
        counted: bool ``[B, K, *S]`` or ``[B, 1, *S]``; None: all.
        steps: from pixel to pixel.
        wide: float64 in place of float32.
    """
    if not mask.numel():
        return mask.to(torch.float64 if wide else torch.float32)
    each = [number for own in steps for _ in range(mask.shape[1]) for number in own]
    if counted is None and not wide:
        return _run(mask.flatten(0, 1), 0, NOBODY, each, True, 0.0, 0.0, False).view(mask.shape).abs()

    def to_others(inside: Tensor) -> Tensor:
        inside = inside if counted is None else inside | ~counted
        return _run(inside.flatten(0, 1), 0, NOBODY, each, False, 0.0, 0.0, wide).view(mask.shape)

    found = torch.where(mask, to_others(mask), to_others(~mask))
    found = found.sqrt() if wide else found
    nowhere = found.isinf() if counted is None else found.isinf() | ~counted
    return torch.where(nowhere, 0.0, found)


def depth_of_labels(labels: Tensor, classes: int, counted: Tensor | None, steps: Steps) -> Tensor:
    """Return the same of each class of labels ``[B, *S]``, float32 ``[B, classes, *S]``; other labels than these are no class's.

    Args:
        labels: integers.
        classes: their number.
        counted: bool ``[B, *S]``; None: all.
        steps: from pixel to pixel.
    """
    labels = torch.where((labels >= 0) & (labels < classes), labels, classes).to(torch.int32)
    labels = labels if counted is None else torch.where(counted, labels, NOBODY_HERE)
    flat = [number for own in steps for number in own]
    return _run(labels, classes + 1, NOBODY_HERE, flat, True, 0.0, 0.0, False)[:, :classes].abs()


NOBODY_HERE = -1
"""The code of labels that do not count."""
