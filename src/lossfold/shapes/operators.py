"""The operator of distance transforms: ``[N, D, H, W]`` in, what :mod:`lossfold.shapes.definition` says out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.engines.native import LIBRARY, NAMESPACE, OPERATORS

LIBRARY.define(
    "distance(Tensor given, int classes, int ignore_index, float[] spacing, bool signed, float inner, float outer, bool squared)"
    " -> Tensor"
)


def _shapes(given: Tensor, classes: int, *rest: Any) -> Tensor:
    shape = (given.shape[0], *[classes] * bool(classes), *given.shape[1:])
    wide = rest[-1] or given.shape[2] > 1 << 24
    return given.new_empty(shape, dtype=torch.float64 if wide else torch.float32)


torch.library.register_fake(f"{NAMESPACE}::distance", _shapes, lib=LIBRARY)


def distance(given: Tensor, *arguments: Any) -> Tensor:
    """Call the operator for volumes of any number of dimensions: what there are fewer of, are axes of one place.

    The longest of one dimension is made the second axis, which costs no memory beside the result.
    """
    space = given.shape[1:]
    classes, ignore_index, spacing, *rest = arguments
    filled = [1] * (3 - len(space)) + list(space) if len(space) > 1 else [1, *space, 1]
    before, after = ((3 - len(space)), 0) if len(space) > 1 else (1, 1)
    steps = [spacing[i : i + len(space)] for i in range(0, len(spacing), len(space))]
    padded = [number for own in steps for number in (*[1.0] * before, *own, *[1.0] * after)]
    result: Tensor = OPERATORS.distance(given.reshape(len(given), *filled), classes, ignore_index, padded, *rest)
    return result.view(len(given), *[classes] * bool(classes), *space)
