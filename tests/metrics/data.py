"""Maps of classes for the tests of metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

C = 4


def maps(ignore: int | None = None, b: int = 3, most: int = C) -> tuple[Tensor, Tensor]:
    """Random maps in which the last class is missing, from the first image altogether."""
    preds, labels = torch.randint(0, most - 1, (b, 5, 6)), torch.randint(0, most - 1, (b, 5, 6))
    preds[1:, :2] = most - 1
    labels[2:, 1] = most - 1
    if ignore is not None:
        labels[:, 3] = ignore
        preds[:, 3, 0] = 77  # at an ignored pixel, anything
    return preds, labels


def close(actual: Tensor, wanted: Any) -> None:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12 * 100, equal_nan=True)
