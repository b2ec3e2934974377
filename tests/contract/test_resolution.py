"""Low-resolution scores held against labels and dense targets of another size: interpolation and then the loss, to rounding.

The truth is `interpolate` in float64 and the plain loss at one resolution, which itself is held to NumPy.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import lossfold as lf
from lossfold.engines import native
from tests.contract.case import ENGINES, Data, Way, close, evaluate
from tests.contract.cases import A_LOSS, CASES, first_of
from tests.contract.truth import at_random, judge
from tests.folds.label.cases import LabelCase, ScoreCase, as_scores

Size = tuple[int, ...]
RATIOS: dict[str, tuple[Size, Size]] = {  # scores, targets
    "2": ((3, 4), (6, 8)),
    "4": ((3, 2), (12, 8)),
    "8": ((2, 3), (16, 24)),
    "16": ((2, 2), (32, 32)),
    "3": ((4, 3), (12, 9)),
    "7/3": ((3, 6), (7, 14)),
    "1 and 3": ((5, 3), (5, 9)),
    "4 and 1": ((3, 5), (12, 5)),
    "1/2": ((8, 6), (4, 3)),
    "3/7": ((7, 14), (3, 6)),
    "up and down": ((8, 3), (3, 9)),
    "one row": ((1, 4), (5, 8)),
    "one column": ((4, 1), (8, 3)),
    "one node": ((1, 1), (4, 5)),
    "to one row": ((3, 4), (1, 8)),
    "to one column": ((3, 4), (6, 1)),
    "to one pixel": ((3, 4), (1, 1)),
}
SCORES = [case for case in CASES if isinstance(case, ScoreCase) and not (case.sorts and case.fold == "dense")]
A_PASS = first_of(lambda case: (case.fold, case.passes, case.maps, case.reduction == "none", case.engines), SCORES)
FEW = [case for case in A_LOSS if case in SCORES]
NAMES = [f"{case.fold}-{case.id}" for case in FEW]


def low(case: ScoreCase, nodes: Size, pixels: Size, **options: Any) -> Data:
    """Scores of one size with targets and weights of another."""
    fine = case.make(pixels, **options)
    return fine.with_pred(case.make(nodes, **options).pred)


def to_ten_digits(case: ScoreCase, data: Data, **how: Any) -> None:
    """In float64, whose truth rounds its coordinates itself; by the no-worse rule in the other dtypes."""
    if data.pred.dtype != torch.float64:
        judge(case, data, **how)
        return
    data = case.settled(data)
    cotangent, truth, slope = at_random(case, data)
    coordinate = 4 * torch.finfo(torch.float64).eps * max(data.pred.shape[2:]) * data.pred.abs().max().item()
    for engine in case.engines:
        result, gradient = evaluate(case.build(engine=engine), data, cotangent)
        assert result.dtype == gradient.dtype == torch.float64
        close(result, truth, grain=case.grain)
        close(gradient, slope, grain=coordinate * slope.abs().max().item())


SHARES = 3  # that the ratios are dealt out in; short runs take the first


def turned(case: ScoreCase, turn: int) -> tuple[ScoreCase, Way]:
    """Corners and centres in turn, and another kind of targets and weights."""
    return case.changed(align_corners=bool(turn % 2)), case.ways[turn % len(case.ways)]


@pytest.mark.parametrize("case", A_PASS, ids=lambda case: f"{case.fold}-{case.id}")
@pytest.mark.parametrize("share", [0, *(pytest.param(other, marks=pytest.mark.slow) for other in range(1, SHARES))])
def test_every_ratio(case: ScoreCase, share: int) -> None:
    """All cases together meet every ratio in the first share alone."""
    place = A_PASS.index(case)
    for i, (nodes, pixels) in enumerate(RATIOS.values()):
        if (i + place) % SHARES == share:
            one, way = turned(case, place // SHARES + i)
            to_ten_digits(one, low(one, nodes, pixels, way=way))


@pytest.mark.parametrize("case", FEW, ids=NAMES)
def test_no_worse_than_plain_pytorch(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    place, sizes = FEW.index(case), itertools.cycle(
        [((9, 11), (36, 44)), ((12, 9), (28, 21)), ((21, 28), (9, 12)), ((5, 6), (40, 48)), ((31, 12), (31, 24))]
    )  # fmt: skip
    for _ in range(place % 5):
        next(sizes)
    for i, dtype in enumerate(dtypes):
        one, way = turned(case, place + i)
        to_ten_digits(one, low(one, *next(sizes), dtype=dtype, way=way))


@pytest.mark.parametrize("case", FEW, ids=NAMES)
def test_large_logits(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    """Standard deviation 25: within a cell one class's logit may rise by 100 and another's fall."""
    if case.link in ("identity", "hinge"):
        return
    if case.name == "ExpLogLoss" and native.simd_level() == "baseline":
        return  # (-log p)^0.3 is steep where p is near 1, and logits of 100 round twice where nothing multiplies and adds at once
    place, sizes = FEW.index(case), [((9, 11), (36, 44)), ((9, 12), (21, 28)), ((14, 21), (6, 9))]
    for i, dtype in enumerate(dtypes):
        one, _ = turned(case, place + i)
        to_ten_digits(one, low(one, *sizes[(place + i) % 3], dtype=dtype, spread=25.0), roundings=0.5)


@pytest.mark.parametrize("case", FEW, ids=NAMES)
def test_wide_and_tall(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    """Rows longer than any block of pixels."""
    place, sizes = FEW.index(case), [((2, 311), (5, 1244)), ((3, 520), (6, 1040)), ((311, 2), (1244, 3))]
    dtype = dtypes[place % len(dtypes)]
    one, way = turned(case, place)
    to_ten_digits(one, low(one, *sizes[place % 3], dtype=dtype, way=way, batch=1))


@pytest.mark.parametrize("case", [case for case in FEW if case.any_channels and case.fold == "label"], ids=lambda case: case.id)
def test_numbers_of_classes(case: LabelCase) -> None:
    for classes, dtype in (
        (2, torch.float64),
        (21, torch.float16),
        (21, torch.float32),
        (150, torch.float32),
        (257, torch.float32),
    ):
        to_ten_digits(case, low(case, (5, 6), (20, 24), channels=classes, dtype=dtype))


LABELS = [case for case in FEW if case.fold == "label"]
ANY_CLASSES = [case for case in LABELS if case.any_channels]


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case.id)
def test_labels_of_every_dtype(case: LabelCase) -> None:
    for ignore_index, kind in itertools.product((255, 1), ("int64", "int32", "uint8")):
        one = case.changed(ignore_index=ignore_index)
        data = low(one, (3, 4), (12, 16), way=(kind, "float"))
        assert data.truth.dtype == getattr(torch, kind) and (data.truth == ignore_index).any()
        to_ten_digits(one, data)


@pytest.mark.parametrize("case", [case for case in LABELS if case.link == "softmax"], ids=lambda case: case.id)
def test_one_hot_logits(case: LabelCase, dtypes: list[torch.dtype]) -> None:
    """±1e4 between neighbours: exponentials of differences along a cell leave every range."""
    sizes = [((9, 11), (36, 44)), ((6, 8), (48, 64)), ((9, 12), (21, 28)), ((9, 7), (4, 5))]
    for i, dtype in enumerate(dtypes):
        one, _ = turned(case, LABELS.index(case) + i)
        data = low(one, *sizes[(LABELS.index(case) + i) % 4])
        hot = torch.nn.functional.one_hot(data.pred.argmax(1), case.classes).movedim(-1, 1).double()
        to_ten_digits(one, data.with_pred((2e4 * hot - 1e4).to(dtype)), saturated=True, by_definition=False)


@pytest.mark.parametrize("case", [case for case in LABELS if case.link == "softmax"], ids=lambda case: case.id)
def test_nodes_that_meet_far_below_their_maxima(case: LabelCase, dtypes: list[torch.dtype]) -> None:
    """(0, -210) beside (-210, 0): halfway both are -105, and exp of that is nothing in float32."""
    raw = torch.full((2, case.classes, 8, 9), -500.0, dtype=torch.float64)
    node = torch.arange(8)[:, None] + torch.arange(9)
    raw[:, 0], raw[:, 1] = -210.0 * (node % 2), -210.0 * (1 - node % 2)
    raw += torch.randn(raw.shape, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 32, 36))
    for i, dtype in enumerate(dtypes):
        one, _ = turned(case, LABELS.index(case) + i)
        to_ten_digits(one, Data(raw.to(dtype), labels))


@pytest.mark.parametrize("case", [case for case in ANY_CLASSES if case.link == "softmax"], ids=lambda case: case.id)
def test_one_class(case: LabelCase, dtypes: list[torch.dtype]) -> None:
    """Its probability is 1 whatever the network says: it is refused."""
    for engine, dtype in itertools.product(case.engines, dtypes):
        with pytest.raises(lf.LossError, match="'sigmoid' for one channel"):
            evaluate(case.build(engine=engine), low(case, (5, 6), (20, 24), channels=1, dtype=dtype))


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case.id)
def test_what_does_not_count_is_not_read(case: LabelCase) -> None:
    """A node all of whose pixels are ignored may hold NaN or infinity; it gets no gradient."""
    data = low(case, (4, 5), (16, 20))
    data.truth[:, :6, :6] = case.ignore_index  # as far as the first node reaches, four times up
    for engine in case.engines:
        truth, slope = evaluate(case.build(engine=engine), data)
        for poison in (torch.nan, torch.inf, -torch.inf, 1e30):
            scores = data.pred.clone()
            scores[:, :, 0, 0] = poison
            result, gradient = evaluate(case.build(engine=engine), data.with_pred(scores))
            close(result, truth)
            close(gradient, slope)
            assert gradient[:, :, 0, 0].abs().max() == 0 and slope.abs().max() > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_stay_between_their_nodes(engine: str) -> None:
    """With link="identity" it is the probabilities that are interpolated: a mean, not a softmax of means."""
    p = as_scores(torch.randn(1, 3, 2, 2, dtype=torch.float64), "identity")
    labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    close(lf.CrossEntropyLoss(link="identity", engine=engine)(p, labels), -p[:, 0].mean().log())


def test_every_loss_of_scores_takes_the_option() -> None:
    """Also the presets."""
    for name in {case.name for case in SCORES}:
        assert "align_corners=True" in repr(lf.LOSSES[name](align_corners=True))
    assert {case.name for case in A_PASS} <= {case.name for case in FEW} == {case.name for case in SCORES}
