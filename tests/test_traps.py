"""The mistakes of published code that losses.md names: a number for each that only the right formula gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate

engines = pytest.mark.parametrize("engine", ENGINES)
HALF = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
"""Two classes, four pixels, p = 1/2 everywhere."""


def probabilities(*rows: list[float]) -> Tensor:
    """[1, C, P] from one row a class."""
    return torch.tensor([rows], dtype=torch.float64)


def value(loss: torch.nn.Module, scores: Tensor, labels: list[int], weight: Tensor | None = None) -> float:
    return float(loss(scores, torch.tensor([labels]), weight))


@engines
def test_cross_entropy_divides_by_counted_pixels(engine: str) -> None:
    loss = lf.CrossEntropyLoss(ignore_index=255, engine=engine)
    assert value(loss, HALF, [0, 255, 255, 1]) == pytest.approx(math.log(2), abs=1e-12)


@engines
def test_pixel_weights_are_in_the_denominator(engine: str) -> None:
    """Σ(w·v·value)/Σ(w·v): weights 3 and 1, class weights 1 and 5."""
    scores = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    loss = lf.CrossEntropyLoss(class_weight=[1.0, 5.0], engine=engine)
    costs = [math.log1p(math.exp(-1.0)), math.log1p(math.exp(-2.0))]
    expected = (3 * 1 * costs[0] + 1 * 5 * costs[1]) / (3 * 1 + 1 * 5)
    assert value(loss, scores, [0, 1], torch.tensor([[3.0, 1.0]])) == pytest.approx(expected, abs=1e-12)


@engines
def test_focal_alpha_scales_values_and_not_the_denominator(engine: str) -> None:
    plain = lf.FocalLoss(gamma=2.0, engine=engine)
    scaled = lf.FocalLoss(gamma=2.0, alpha=[0.25, 0.75], engine=engine)
    assert value(plain, HALF, [0, 0, 0, 1]) == pytest.approx(0.25 * math.log(2), abs=1e-12)
    expected = 0.25 * math.log(2) * (3 * 0.25 + 0.75) / 4
    assert value(scaled, HALF, [0, 0, 0, 1]) == pytest.approx(expected, abs=1e-12)


@engines
def test_focal_takes_p_from_the_unweighted_cross_entropy(engine: str) -> None:
    """p is not p^v: with one class weight for all, the mean does not change."""
    scores = torch.randn(1, 2, 4, dtype=torch.float64)
    weighted = lf.FocalLoss(class_weight=[3.0, 3.0], engine=engine)
    plain = lf.FocalLoss(engine=engine)
    assert value(weighted, scores, [0, 1, 1, 0]) == pytest.approx(value(plain, scores, [0, 1, 1, 0]), abs=1e-12)


@engines
@pytest.mark.parametrize("class_weight", [None, [0.5, 2.0, 1.0]])
def test_focal_without_gamma_is_cross_entropy(engine: str, class_weight: list[float] | None) -> None:
    data = Data(torch.randn(2, 3, 5, dtype=torch.float64), torch.randint(0, 3, (2, 5)))
    ours = evaluate(lf.FocalLoss(gamma=0.0, class_weight=class_weight, engine=engine), data)
    theirs = evaluate(lf.CrossEntropyLoss(class_weight=class_weight, engine=engine), data)
    for actual, expected in zip(ours, theirs, strict=True):
        close(actual, expected)


@engines
def test_dice_compares_the_prediction_with_the_target(engine: str) -> None:
    """Wrong everywhere costs 1 and right everywhere 0: not the comparison of the output with itself."""
    right = probabilities([1, 1, 0, 0], [0, 0, 1, 1])
    loss = lf.DiceLoss(link="identity", smooth=0.0, engine=engine)
    assert value(loss, right, [0, 0, 1, 1]) == pytest.approx(0.0, abs=1e-12)
    assert value(loss, right, [1, 1, 0, 0]) == pytest.approx(1.0, abs=1e-12)


@engines
def test_numbers_worked_by_hand(engine: str) -> None:
    """p of class 1 is 0.8, 0.6, 0.3, 0.1 and the truth 1, 1, 0, 0; class 0 is the complement."""
    p = probabilities([0.2, 0.4, 0.7, 0.9], [0.8, 0.6, 0.3, 0.1])
    labels = [1, 1, 0, 0]
    overlap = {0: 1.6, 1: 1.4}
    area = {0: 2.2, 1: 1.8}
    squares = {0: 0.04 + 0.16 + 0.49 + 0.81, 1: 0.64 + 0.36 + 0.09 + 0.01}
    common = {"link": "identity", "smooth": 1.0, "engine": engine}

    def mean(score: dict[int, float]) -> float:
        return 1 - (score[0] + score[1]) / 2

    dice = {c: (2 * overlap[c] + 1) / (area[c] + 2 + 1) for c in (0, 1)}
    assert value(lf.DiceLoss(**common), p, labels) == pytest.approx(mean(dice), abs=1e-12)
    squared = {c: (2 * overlap[c] + 1) / (squares[c] + 2 + 1) for c in (0, 1)}
    assert value(lf.DiceLoss(squared=True, **common), p, labels) == pytest.approx(mean(squared), abs=1e-12)
    jaccard = {c: (overlap[c] + 1) / (area[c] + 2 - overlap[c] + 1) for c in (0, 1)}
    assert value(lf.JaccardLoss(**common), p, labels) == pytest.approx(mean(jaccard), abs=1e-12)
    tversky = {c: overlap[c] + 1 for c in (0, 1)}
    tversky = {c: t / (t + 0.3 * (area[c] - overlap[c]) + 0.7 * (2 - overlap[c])) for c, t in tversky.items()}
    assert value(lf.TverskyLoss(alpha=0.3, beta=0.7, **common), p, labels) == pytest.approx(mean(tversky), abs=1e-12)
    power = sum((1 - t) ** 0.75 for t in tversky.values()) / 2
    loss = lf.TverskyLoss(alpha=0.3, beta=0.7, exponent=0.75, **common)
    assert value(loss, p, labels) == pytest.approx(power, abs=1e-12)
    logs = -sum(math.log(d) for d in dice.values()) / 2
    assert value(lf.DiceLoss(log=True, **common), p, labels) == pytest.approx(logs, abs=1e-12)
    single = lf.DiceLoss(include_background=False, **common)
    assert value(single, p, labels) == pytest.approx(1 - dice[1], abs=1e-12)
    weighted = lf.DiceLoss(class_weight=[1.0, 3.0], **common)
    assert value(weighted, p, labels) == pytest.approx(1 - (dice[0] + 3 * dice[1]) / 4, abs=1e-12)
    micro = lf.DiceLoss(average="micro", class_weight=[1.0, 3.0], **common)
    score = (2 * (1.6 + 3 * 1.4) + 1) / ((2.2 + 3 * 1.8) + (2 + 3 * 2) + 1)
    assert value(micro, p, labels) == pytest.approx(1 - score, abs=1e-12)


@engines
def test_generalized_dice_by_hand(engine: str) -> None:
    """Three pixels of class 0, one of class 1, none of class 2."""
    p = probabilities([0.7, 0.8, 0.6, 0.3], [0.2, 0.1, 0.3, 0.5], [0.1, 0.1, 0.1, 0.2])
    labels = [0, 0, 0, 1]
    overlap, area, true = [2.1, 0.5], [2.4, 1.1, 0.5], [3.0, 1.0, 0.0]
    for weighting, power in (("square", 2), ("simple", 1), ("uniform", 0)):
        factor = [1 / 3.0**power, 1.0]
        number = 2 * sum(f * o for f, o in zip(factor, overlap, strict=True))
        total = sum(f * (area[c] + true[c]) for c, f in enumerate(factor))
        loss = lf.GeneralizedDiceLoss(weighting=weighting, link="identity", engine=engine)
        assert value(loss, p, labels) == pytest.approx(1 - number / total, abs=1e-12)
        counted = lf.GeneralizedDiceLoss(weighting=weighting, link="identity", absent="count", engine=engine)
        assert value(counted, p, labels) == pytest.approx(1 - number / (total + area[2]), abs=1e-12)


@engines
def test_absent_classes(engine: str) -> None:
    """Class 2 is absent, its p 1/4 at each of four pixels: it is skipped, or costs 1 - s/(1 + s), or 0."""
    p = probabilities([0.75] * 4, [0.0] * 4, [0.25] * 4)
    labels = [0, 0, 0, 0]
    present = 1 - (2 * 3 + 1) / (3 + 4 + 1)
    false_alarm = 1 - 1 / (1 + 1)
    expected = {"skip": present, "count": (present + 0 + false_alarm) / 3, "zero": present / 3}
    for absent, number in expected.items():
        loss = lf.DiceLoss(link="identity", absent=absent, engine=engine)
        assert value(loss, p, labels) == pytest.approx(number, abs=1e-12), absent
        table = loss.__class__(link="identity", absent=absent, reduction="none", engine=engine)(p, torch.tensor([labels]))
        cost = [present, 0.0, false_alarm if absent == "count" else 0.0]
        close(table, torch.tensor(cost, dtype=torch.float64))


@engines
def test_an_absent_class_has_a_gradient_only_where_it_costs(engine: str) -> None:
    """Zero means zero: a false alarm of a class that costs nothing is pushed nowhere."""
    p = probabilities([0.75] * 4, [0.0] * 4, [0.25] * 4)
    for absent, moves in (("skip", False), ("zero", False), ("count", True)):
        loss = lf.DiceLoss(link="identity", absent=absent, engine=engine)
        _, gradient = evaluate(loss, Data(p, torch.zeros(1, 4, dtype=torch.int64)))
        assert bool(gradient[0, 2].abs().max() > 0) is moves, absent


@engines
@pytest.mark.parametrize("name", ["DiceLoss", "JaccardLoss", "TverskyLoss"])
def test_no_smoothing_and_a_class_neither_there_nor_predicted(engine: str, name: str) -> None:
    """0/0 is a perfect score, with no gradient and no NaN."""
    p = probabilities([1.0, 1.0], [0.0, 0.0])
    for log in (False, True):
        loss = lf.LOSSES[name](link="identity", smooth=0.0, absent="count", log=log, engine=engine)
        result, gradient = evaluate(loss, Data(p, torch.zeros(1, 2, dtype=torch.int64)))
        assert result == 0 and torch.isfinite(gradient).all()


@engines
def test_a_log_score_is_clamped(engine: str) -> None:
    p = probabilities([0.0, 0.0], [1.0, 1.0])
    loss = lf.DiceLoss(link="identity", smooth=0.0, log=True, engine=engine)
    result, gradient = evaluate(loss, Data(p, torch.zeros(1, 2, dtype=torch.int64)))
    assert float(result) == pytest.approx(7 * math.log(10), abs=1e-9)
    assert torch.isfinite(gradient).all()


@engines
@pytest.mark.parametrize("exponent", [0.5, 0.75, 2.0])
def test_focal_tversky_of_a_perfect_prediction(engine: str, exponent: float) -> None:
    """A power below 1 has an infinite slope at 0: the gradient is finite all the same."""
    p = probabilities([1, 1, 0], [0, 0, 1])
    loss = lf.TverskyLoss(link="identity", exponent=exponent, engine=engine)
    result, gradient = evaluate(loss, Data(p, torch.tensor([[0, 0, 1]])))
    assert result.abs() <= 1e-30 and torch.isfinite(gradient).all()


@engines
def test_masks_remove_pixels_and_do_not_zero_logits(engine: str) -> None:
    """Zeroed logits would be a confident nothing: p = 1/C counted in every class's area."""
    scores = torch.randn(1, 3, 6, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False, False]])
    loss = lf.DiceLoss(engine=engine)
    masked = value(loss, scores, [0, 1, 2, 0, 1, 2], mask)
    assert masked == pytest.approx(value(loss, scores[:, :, :3], [0, 1, 2]), abs=1e-12)
    assert masked != pytest.approx(value(loss, scores * mask[:, None], [0, 1, 2, 0, 1, 2]), abs=1e-3)


@engines
def test_an_ignore_label_among_the_classes(engine: str) -> None:
    """Ignored background: its pixels are gone, and class 0 is then a class without pixels."""
    scores = torch.randn(1, 3, 6, dtype=torch.float64)
    loss = lf.DiceLoss(ignore_index=0, engine=engine)
    expected = value(lf.DiceLoss(engine=engine), scores[:, :, 2:], [1, 2, 1, 2])
    assert value(loss, scores, [0, 0, 1, 2, 1, 2]) == pytest.approx(expected, abs=1e-12)
