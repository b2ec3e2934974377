"""What counts of a call's elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.contract.case import Data

if TYPE_CHECKING:
    from tests.folds.dense.cases import DenseCase


def element_weights(case: DenseCase, data: Data) -> Tensor:
    """The weight of every element, 0 where it is ignored, ``[B, K, *S]`` in float64."""
    t = data.truth
    whole = not t.is_floating_point() and t.dtype != torch.bool
    counted = (t != case.ignore_index) if whole else torch.ones_like(t, dtype=torch.bool)
    if case.together:
        counted = counted.all(1, keepdim=True).expand(t.shape)
    if data.weight is None:
        return counted.double()
    w = data.weight.double()
    return torch.where(counted, w if w.dim() == t.dim() else w.unsqueeze(1), 0.0)
