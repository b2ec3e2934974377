"""Data kept clear of the places where a dense loss's gradient is not continuous; see `tests.folds.label.steps`.

- Overlap of soft targets: p crosses t;
- Lovász from a histogram: an error crosses the edge of a bin, a hinge error also 0;
- Lovász by sorting: two errors change places.

Elements this near get the weight 0 (with softmax their pixels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.contract.case import Data
from tests.folds.dense.elements import element_weights
from tests.folds.dense.plain import Elements, lovasz_errors
from tests.folds.label.steps import follows

if TYPE_CHECKING:
    from tests.folds.dense.cases import DenseCase


def settled(case: DenseCase, data: Data, *, roundings: float = 8.0, distance: float | None = None) -> Data:
    """The data without the elements that are near a step of this loss.

    Args:
        case, data: the loss, and what it is given.
        roundings: how near, in roundings of a score of the data's size in what is computed in (float32 for halves).
        distance: how near, outright.
    """
    soft = data.truth.is_floating_point()
    if case.name != "LovaszLoss" and not (case.overlaps and soft and not case.options.get("squared")):
        return data
    exact = Data(data.pred.detach().double(), data.truth, data.weight)
    e = Elements(case, exact)
    size = max(4.0, data.pred.double().nan_to_num(0, 0, 0).abs().max().item()) if case.link != "identity" else 1.0
    computed = torch.float64 if data.pred.dtype == torch.float64 else torch.float32
    margin = roundings * size * torch.finfo(computed).eps if distance is None else distance
    near = ((e.p - e.t).abs() < margin) if case.overlaps else near_a_step(case, e, margin)
    near = near.reshape(data.truth.shape)
    weights = element_weights(case, data)
    if case.together:
        near, weights = near.any(1), weights[:, 0]
    weights = torch.where(near, 0.0, weights)
    return Data(data.pred, data.truth, weights.to(torch.float64 if data.pred.dtype == torch.float64 else torch.float32))


def near_a_step(case: DenseCase, e: Elements, margin: float) -> Tensor:
    _, errors = lovasz_errors(e)
    reach = margin * (1 + errors) if case.hinge else torch.full_like(errors, margin)
    counted = e.w != 0
    beside = torch.zeros_like(counted)
    if case.hinge:
        scores = torch.where(e.t > 0.5, e.z, -e.z)
        beside = (scores - 1).abs() < reach
    if not case.sorts:
        if case.hinge:
            each, octave = case.bins // 16, (1 + errors).log2().floor()
            place, unit = ((1 + errors) / 2**octave - 1) * each, each / 2**octave
        else:
            place, unit = errors * case.bins, torch.full_like(errors, float(case.bins))
        return counted & (beside | ((place - place.round()).abs() < reach * unit))
    between = counted & (errors > 0)
    columns = zip(torch.where(between, errors, -1.0).movedim(1, 0).flatten(1), reach.movedim(1, 0).flatten(1), strict=True)
    near = torch.stack([follows(column, distance) for column, distance in columns])
    return counted & (beside | near.reshape(errors.shape[1], errors.shape[0], -1).movedim(0, 1))
