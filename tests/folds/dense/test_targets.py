"""Dense targets: what blank, empty and perfectly met ones cost, and how they may be written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lossfold as lf
from tests.contract.case import ENGINES, Case, Data, both_close, both_same, close, evaluate
from tests.contract.cases import CASES, every
from tests.folds.dense.cases import DenseCase

DENSE = [case for case in CASES if case.fold == "dense"]


@every(DENSE)
def test_blank_targets(case: Case) -> None:
    """All 0 or all 1, soft or hard: finite, and never below 0."""
    data = case.make()
    for level in (0, 1):
        targets = torch.full_like(data.truth, level)
        for one in (targets, targets.bool()):
            result, gradient = evaluate(case.build(), data.with_target(one))
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
    blank = Data(scores, torch.zeros_like(data.truth))
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss"])
def test_a_soft_target_that_is_met_costs_nothing(name: str, engine: str) -> None:
    """Value and gradient are 0 where p = t, as |p - t| has its least there; one element off costs in its direction alone."""
    t = (torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 128 + 64).round() / 256
    loss = lf.LOSSES[name](link="identity", engine=engine)
    result, gradient = evaluate(loss, Data(t, t))
    close(result, torch.zeros_like(result))
    close(gradient, torch.zeros_like(gradient))
    off = t.clone()
    off[0, 0, 0] += 0.25
    result, gradient = evaluate(loss, Data(off, t.clone()))
    assert result > 0 and gradient[0, 0, 0] > 0
    off[0, 0, 0] -= 0.5
    result, gradient = evaluate(loss, Data(off, t.clone()))
    assert result > 0 and gradient[0, 0, 0] < 0


@every(DENSE)
def test_one_channel_may_be_left_out_of_targets(case: Case) -> None:
    """Unless integers without it are labels."""
    assert isinstance(case, DenseCase)
    if case.reads_labels:
        return
    case = case.of_one_class()
    data = case.make(channels=1, way=("soft", "pixel"))
    both_same(evaluate(case.build(), data.with_target(data.truth[:, 0])), evaluate(case.build(), data))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("BinaryCrossEntropyLoss", "pos_weight"),
        ("BinaryCrossEntropyLoss", "class_weight"),
        ("FocalLoss", "alpha"),
        ("DiceLoss", "class_weight"),
        ("LovaszLoss", "class_weight"),
    ],
)
def test_a_number_for_each_channel(name: str, option: str, engine: str) -> None:
    """As lists, tuples and tensors; another number of channels is refused by name."""
    options = {"link": "sigmoid", "engine": engine}
    data = DenseCase(name, options).make(channels=3)
    numbers = [0.25, 0.0, 1.0]
    truth, slope = evaluate(lf.LOSSES[name](**options, **{option: numbers}), data)
    for way in (tuple(numbers), torch.tensor(numbers)):
        both_same(evaluate(lf.LOSSES[name](**options, **{option: way}), data), (truth, slope))
    with pytest.raises(lf.LossError, match=rf"{name}.*{option}.*3"):
        lf.LOSSES[name](**options, **{option: numbers[:2]})(*data.call)


def test_one_loss_reads_labels_and_dense_targets() -> None:
    """One module for both; with link="identity" a one-hot target is what its labels are (to the form for soft targets)."""
    labels = torch.randint(0, 4, (2, 5, 6))
    hot = nn.functional.one_hot(labels, 4).movedim(-1, 1)
    scores = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for loss in (lf.CrossEntropyLoss(), lf.DiceLoss(), lf.JaccardLoss(squared=True, smooth=0.0), lf.GeneralizedDiceLoss()):
        truth, slope = evaluate(loss, Data(scores, labels))
        for targets in (hot, hot.bool(), hot.double(), hot.to(torch.uint8)):
            both_close(evaluate(loss, Data(scores, targets)), (truth, slope))
