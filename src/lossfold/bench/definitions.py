"""The label losses as people write them in plain PyTorch.

In the leaf's own dtype they are the provider "eager" (and, compiled, "compile"); in float64 they are the truth
of the label cases. `smooth` and `per_image` exist for peers that offer the loss only in that form.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""The label of pixels that do not count."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p at the label over the counted pixels."""
    return functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED)


def dice(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Mean over classes of 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s); every class is counted."""
    counted = (labels != IGNORED).unsqueeze(1)
    safe = torch.where(labels == IGNORED, 0, labels).long()
    probabilities = logits.softmax(dim=1) * counted
    targets = functional.one_hot(safe, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * counted
    pixels = tuple(range(2, logits.dim()))
    dims = pixels if per_image else (0, *pixels)
    overlap = (probabilities * targets).sum(dims)
    areas = probabilities.sum(dims) + targets.sum(dims)
    return (1 - (2 * overlap + smooth) / (areas + smooth)).mean()


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of (1 - p)^gamma (-log p) at the label over the counted pixels."""
    entropy = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="none")
    hardness = (1 - torch.exp(-entropy)) ** gamma
    return (hardness * entropy).sum() / (labels != IGNORED).sum()


def cross_entropy_dice(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Cross entropy + Dice."""
    return cross_entropy(logits, labels) + dice(logits, labels, smooth, per_image)


def cross_entropy_dice_focal(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Cross entropy + Dice + focal."""
    return cross_entropy_dice(logits, labels, smooth, per_image) + focal(logits, labels)
