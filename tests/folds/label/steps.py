"""Data kept clear of the places where a loss's gradient is not continuous.

A rounding error may carry a pixel over such a step, and then two right results differ by more than rounding:

- Lovász from a histogram: an error crosses the edge of a bin;
- Lovász by sorting: two errors change places;
- OHEM: a probability crosses the threshold, or two pixels change places, one of which is the k-th;
- ExpLogLoss: -log p crosses 1e-7, from where on scores count as 1 and have no gradient.

Comparisons at a dtype ignore the few pixels that are this near. Errors of exactly 0 and 1, as saturated scores have them, stay:
nothing lies beyond them. What holds at the steps themselves is tested in test_lovasz.py and test_ohem.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from tests.contract.case import INTERPOLATED, Data

if TYPE_CHECKING:
    from tests.folds.label.cases import LabelCase


def settled(case: LabelCase, data: Data, *, roundings: float = 8.0, distance: float | None = None) -> Data:
    """The data with the pixels ignored that are near a step of this loss.

    Args:
        roundings: how near: in roundings of a score of the data's size, in what is computed in (float32 for halves).
        distance: how near, outright, in the error or probability.
    """
    if case.name not in ("LovaszLoss", "OhemCrossEntropyLoss", "ExpLogLoss"):
        return data
    scores = resized(case, data).detach()
    whole = scores.shape == data.pred.shape  # equal scores then are equal in every engine, and mined together
    if not whole:
        roundings += max(data.pred.shape[2:])  # interpolation rounds coordinates too
    computed = torch.float64 if data.pred.dtype == torch.float64 else torch.float32
    size = max(4.0, data.pred.double().nan_to_num(0, 0, 0).abs().max().item()) if case.link == "softmax" else 1.0
    margin = roundings * size * torch.finfo(computed).eps if distance is None else distance
    counted = (data.truth != case.ignore_index).flatten(1)
    if data.weight is not None:
        counted = counted & (data.weight.flatten(1) != 0)
    y = torch.where(counted, data.truth.flatten(1).long(), 0)
    log_p = (scores.log_softmax(1) if case.link == "softmax" else scores.clamp_min(1e-12).log()).flatten(2)
    p = log_p.exp()
    nll = -log_p.gather(1, y[:, None])[:, 0]
    if case.name == "ExpLogLoss":
        near = (nll > 0) & (nll < 1e-7 + roundings * torch.finfo(computed).eps)
    elif case.name == "OhemCrossEntropyLoss":
        near = ((-nll).exp() - case.options.get("thresh", 0.7)).abs() < margin
        after = follows(torch.where(counted, nll, -1.0).flatten(), margin * (1 + nll.flatten()), equals=not whole)
        near |= after.reshape(near.shape)
    else:
        foreground = functional.one_hot(y, scores.shape[1]).movedim(-1, 1) != 0
        errors = torch.where(foreground, 1 - p, p)
        reach = margin * torch.where(foreground, 1.0, p) if distance is None else torch.full_like(p, margin)
        near = (beside_an_edge(errors, reach, case.bins) if case.bins else after_another(errors, counted, reach)).any(1)
    labels = torch.where(near.reshape(data.truth.shape) & counted.reshape(data.truth.shape), case.ignore_index, data.truth)
    return data.with_target(labels.to(data.truth.dtype))


def resized(case: LabelCase, data: Data) -> Tensor:
    """The scores in float64, at the labels' resolution."""
    scores = data.pred.double()
    if scores.ndim not in INTERPOLATED or scores.shape[2:] == data.truth.shape[1:]:
        return scores
    corners = bool(case.options.get("align_corners", False))
    return functional.interpolate(scores, data.truth.shape[1:], mode=INTERPOLATED[scores.ndim], align_corners=corners)


def beside_an_edge(errors: Tensor, reach: Tensor, bins: int) -> Tensor:
    edge = (errors * bins).round()
    return ((errors * bins - edge).abs() < reach * bins) & (edge > 0) & (edge < bins)


def after_another(errors: Tensor, counted: Tensor, reach: Tensor) -> Tensor:
    """`follows` for each class; neighbours of 0 and 1 have no gradient to exchange."""
    between = (errors > reach) & (errors < 1 - reach) & counted[:, None]
    columns = zip(torch.where(between, errors, -1.0).movedim(1, 0).flatten(1), reach.movedim(1, 0).flatten(1), strict=True)
    near = torch.stack([follows(column, distance) for column, distance in columns])
    return between & near.reshape(errors.shape[1], errors.shape[0], -1).movedim(0, 1)


def follows(values: Tensor, reach: Tensor, *, equals: bool = True) -> Tensor:
    """Whether the next smaller of the values >= 0 is as near; without these, those that stay are apart."""
    ordered, order = values.sort(stable=True)
    steps = ordered.diff(prepend=ordered[:1] - torch.inf)
    steps[1:][ordered[:-1] < 0] = torch.inf
    near = (steps < reach[order]) & (ordered >= 0) & ((steps > 0) | equals)
    return torch.zeros_like(near).scatter_(0, order, near)
