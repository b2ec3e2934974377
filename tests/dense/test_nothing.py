"""Where nothing counts a dense loss is 0 with a zero gradient; empty masks and perfect or blank targets are defined."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate
from tests.dense.cases import DenseCase, call, every_dense_case, make_dense, samples


def nothing(case: DenseCase, data: Data) -> Tensor:
    """Asserts a finite zero with a finite zero gradient; returns the value."""
    leaf = data.leaf()
    result = call(case.build(), leaf)
    assert result.requires_grad
    assert torch.equal(result, torch.zeros_like(result))
    (gradient,) = torch.autograd.grad(result.sum(), leaf.scores)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    return result


@every_dense_case()
def test_nothing_counted(case: DenseCase, dtypes: list[torch.dtype]) -> None:
    for dtype, per_image in itertools.product(dtypes, (False, True)):
        case = case.changed(per_image=per_image)
        ints, soft = make_dense(case, target="int", dtype=dtype), make_dense(case, dtype=dtype)
        pixels = soft.labels[:, 0].shape
        empties = [
            Data(ints.scores, torch.full_like(ints.labels, case.ignore_index)),
            Data(soft.scores, soft.labels, torch.zeros(pixels)),
            Data(soft.scores, soft.labels, torch.zeros(pixels, dtype=torch.bool)),
        ]
        empties += [] if case.together else [Data(soft.scores, soft.labels, torch.zeros(soft.labels.shape))]
        for data in empties:
            assert nothing(case, data).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every_dense_case()
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 5), (0,)], ids=str)
def test_zero_sized_batch_or_space(case: DenseCase, shape: tuple[int, ...]) -> None:
    scores = torch.zeros(shape[0], case.classes, *shape[1:], dtype=torch.float64)
    for targets in (scores.clone(), scores.bool(), scores.long()):
        for weight in (None, torch.zeros(shape)):
            nothing(case, Data(scores, targets, weight))


@every_dense_case(among=samples())
def test_one_empty_image_beside_a_full_one(case: DenseCase) -> None:
    """An image in which nothing counts changes neither value nor gradient of the mean and the sum."""
    if case.options.get("reduction") == "none":
        case = case.changed(reduction="mean")
    data = make_dense(case, target="int", ignored=0.0)
    data.labels[1] = case.ignore_index
    result, gradient = evaluate(case.build(), data)
    truth, slope = evaluate(case.build(), Data(data.scores[:1], data.labels[:1]))
    close(result, truth, grain=case.grain)
    close(gradient[:1], slope)
    assert gradient[1].abs().max() == 0


@every_dense_case(among=samples())
@pytest.mark.parametrize("target", ["soft", "bool"])
@pytest.mark.parametrize("level", [0, 1])
def test_blank_targets(case: DenseCase, target: str, level: int) -> None:
    """All 0 or all 1: finite, and never below 0."""
    data = make_dense(case)
    targets = torch.full_like(data.labels, level)
    result, gradient = evaluate(case.build(), Data(data.scores, targets.bool() if target == "bool" else targets))
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all() and (result >= -1e-12).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("soft", [False, True])
def test_what_an_empty_mask_costs(engine: str, soft: bool) -> None:
    """Skipped: 0. Counted: the formula with Σt = 0. Zero: a perfect channel in the mean."""
    scores = torch.randn(1, 2, 9, dtype=torch.float64)
    targets = torch.zeros_like(scores)
    targets[:, 0, :4] = 1
    data = Data(scores, targets if soft else targets.bool())
    p = scores.sigmoid()[0]
    first = 1 - (2 * p[0, :4].sum() + 1) / (p[0].sum() + 4 + 1)
    second = 1 - 1 / (p[1].sum() + 1)
    for absent, expected in (("skip", first), ("count", (first + second) / 2), ("zero", first / 2)):
        result, _ = evaluate(lf.DiceLoss(link="sigmoid", absent=absent, engine=engine), data)
        close(result, expected)
    blank = Data(scores, torch.zeros_like(data.labels))
    for absent, expected in (("skip", 0 * first), ("count", (1 - 1 / (p[0].sum() + 1) + second) / 2), ("zero", 0 * first)):
        result, gradient = evaluate(lf.DiceLoss(link="sigmoid", absent=absent, engine=engine), blank)
        close(result, expected)
        assert (gradient.abs().max() > 0) == (absent == "count")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_hinge_foreground_costs_its_largest_error(engine: str) -> None:
    scores = torch.tensor([[[-3.0, 0.5, 2.0, -1.5]], [[-3.0, -2.0, -5.0, -1.5]]], dtype=torch.float64)
    result, gradient = evaluate(lf.LovaszLoss(link="hinge", exact=True), Data(scores, torch.zeros_like(scores)))
    close(result, torch.tensor(3.0 / 2, dtype=torch.float64))  # 1 + 2.0 in image 0, nothing wrong in image 1
    expected = torch.zeros_like(scores)
    expected[0, 0, 2] = 0.5
    close(gradient, expected)
    folded, gradient = evaluate(lf.LovaszLoss(link="hinge", engine=engine), Data(scores, torch.zeros_like(scores)))
    close(folded, result, 0, 1e-6)
    close(gradient, expected)


@every_dense_case(among=samples())
def test_one_element(case: DenseCase) -> None:
    """One pixel with nothing else in the batch is the pixel among ignored ones."""
    data = make_dense(case, (1,), target="int", batch=1, ignored=0.0)
    data.labels[0, 0, 0] = 1
    many = Data(data.scores.expand(-1, -1, 6), torch.full((1, case.classes, 6), case.ignore_index))
    many.labels[..., :1] = data.labels
    result, gradient = evaluate(case.build(), data)
    truth, slope = evaluate(case.build(), many)
    close(result, truth[..., :1] if case.maps else truth, grain=case.grain)
    close(gradient, slope[..., :1])
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
