"""Where nothing counts a loss is 0 with a zero gradient: never NaN, never a constant without a graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.cases import Case, Data, close, evaluate, every_case, make, value


def all_ignored(case: Case, data: Data) -> Data:
    return Data(data.scores, torch.full_like(data.labels, case.ignore_index))


def all_weight_zero(case: Case, data: Data) -> Data:
    return Data(data.scores, data.labels, torch.zeros(data.labels.shape))


def all_masked(case: Case, data: Data) -> Data:
    return Data(data.scores, data.labels, torch.zeros(data.labels.shape, dtype=torch.bool))


def nothing(case: Case, data: Data) -> Tensor:
    """Asserts a finite zero with a finite zero gradient; returns the value."""
    leaf = data.leaf()
    result = value(case.build()(*leaf.call))
    assert result.requires_grad
    assert torch.equal(result, torch.zeros_like(result))
    (gradient,) = torch.autograd.grad(result.sum(), leaf.scores)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    return result


@every_case()
@pytest.mark.parametrize("empty", [all_ignored, all_weight_zero, all_masked])
def test_nothing_counted(case: Case, empty: Callable[[Case, Data], Data], dtypes: list[torch.dtype], device: torch.device) -> None:
    for dtype, per_image in itertools.product(dtypes, (False, True)):
        case = case.changed(per_image=per_image)
        result = nothing(case, empty(case, make(case, dtype=dtype, device=device)))
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every_case()
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 5), (2, 0)], ids=str)
def test_zero_sized_batch_or_space(case: Case, shape: tuple[int, ...]) -> None:
    scores = torch.zeros(shape[0], case.classes, *shape[1:], dtype=torch.float64)
    for weight in (None, torch.zeros(shape)):
        nothing(case, Data(scores, torch.zeros(shape, dtype=torch.int64), weight))


@every_case()
def test_one_empty_image_beside_a_full_one(case: Case) -> None:
    """An image without counted pixels changes neither value nor gradient of the mean and the sum."""
    if case.options.get("reduction") == "none":
        case = case.changed(reduction="mean")
    data = make(case, batch=2, ignored=0.0)
    data.labels[1] = case.ignore_index
    result, gradient = evaluate(case.build(), data)
    truth, slope = evaluate(case.build(), Data(data.scores[:1], data.labels[:1]))
    close(result, truth)
    close(gradient[:1], slope)
    assert gradient[1].abs().max() == 0


@every_case()
def test_one_pixel(case: Case) -> None:
    scores = make(case, (1,), batch=1).scores
    label = 1 + int(scores[0, 1:].argmin())  # hard, and foreground
    one = Data(scores, torch.full((1, 1), label))
    result, gradient = evaluate(case.build(), one)
    many = Data(scores.expand(-1, -1, 6), torch.tensor([[label] + [case.ignore_index] * 5]))
    truth, slope = evaluate(case.build(), many)
    if result.shape == one.labels.shape and truth.shape == many.labels.shape:
        truth = truth[:, :1]
    close(result, truth, grain=case.grain)
    close(gradient, slope[:, :, :1])
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@every_case()
def test_one_class(case: Case) -> None:
    """Softmax of one class is 1: the prediction is perfect, whatever the score."""
    options = {k: [v[0]] for k, v in case.per_class.items()} | ({"classes": [0]} if "classes" in case.options else {})
    case = case.changed(**options, ignore_index=-100)
    scores = torch.randn(2, 1, 5, dtype=torch.float64)
    if case.link == "identity":
        scores = torch.ones_like(scores)
    labels = torch.tensor([[0, 0, -100, 0, 0], [0, -100, 0, 0, 0]])
    result, gradient = evaluate(case.build(), Data(scores, labels))
    close(result, torch.zeros_like(result))
    assert torch.isfinite(gradient).all()
    if case.link == "softmax":
        close(gradient, torch.zeros_like(gradient))
