"""Low-resolution logits scored at the labels' resolution: bilinear interpolation and then the loss, to rounding.

The truth is `interpolate` in float64 and the dense formula of `tests.plain`, which itself is held to NumPy.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests.cases import ENGINES, LABEL_LOSSES, Case, Data, as_scores, cases, close, evaluate, every_case, make, one_case_a_fold
from tests.steps import settled
from tests.truth import assert_no_worse, truth_of

Size = tuple[int, int]
RATIOS: dict[str, tuple[Size, Size]] = {  # logits, labels
    "2": ((3, 4), (6, 8)),
    "4": ((3, 2), (12, 8)),
    "8": ((2, 3), (16, 24)),
    "16": ((2, 2), (32, 32)),
    "7/3": ((3, 6), (7, 14)),
    "1 and 3": ((5, 3), (5, 9)),
    "4 and 1": ((3, 5), (12, 5)),
    "1/2": ((8, 6), (4, 3)),
    "3/7": ((7, 14), (3, 6)),
    "up and down": ((8, 3), (3, 8)),
    "one row": ((1, 4), (5, 8)),
    "one column": ((4, 1), (8, 3)),
    "one node": ((1, 1), (4, 5)),
    "to one row": ((3, 4), (1, 8)),
    "to one column": ((3, 4), (6, 1)),
    "to one pixel": ((3, 4), (1, 1)),
}
FOLDS = one_case_a_fold()
corners = pytest.mark.parametrize("align_corners", [False, True], ids=["centres", "corners"])


def large(case: Case, low: Size, high: Size, **options: Any) -> Data:
    """Scores of one size with labels and weights of another."""
    fine = make(case, high, **options)
    return Data(make(case, low, **options).scores, fine.labels, fine.weight)


def judge(case: Case, data: Data, *label_dtypes: torch.dtype, saturated: bool = False) -> None:
    """To ten digits in float64, whose truth rounds its coordinates itself; by the no-worse rule in the other dtypes."""
    if data.scores.dtype != torch.float64:
        assert_no_worse(case, data, *label_dtypes or (torch.int64,), saturated=saturated)
        return
    data = settled(case, data)
    cotangent = torch.randn(truth_of(case, data)[0].shape, dtype=torch.float64)
    truth, slope = truth_of(case, data, cotangent)
    coordinate = 4 * torch.finfo(torch.float64).eps * max(data.scores.shape[2:]) * data.scores.abs().max().item()
    for label_dtype in label_dtypes or (torch.int64,):
        if label_dtype != torch.uint8 or case.ignore_index >= 0:
            result, gradient = evaluate(case.build(), data.to(torch.float64, label_dtype), cotangent)
            close(result, truth, grain=case.grain)
            close(gradient, slope, grain=coordinate * slope.abs().max().item())


@every_case()
@corners
def test_every_ratio(case: Case, align_corners: bool) -> None:
    case = case.changed(align_corners=align_corners)
    for (low, high), weight in zip(RATIOS.values(), 6 * [None, "float", "bool"], strict=False):
        judge(case, large(case, low, high, weight=weight))


@every_case()
@corners
def test_no_worse_than_plain_pytorch(case: Case, align_corners: bool, dtypes: list[torch.dtype]) -> None:
    case = case.changed(align_corners=align_corners)
    for dtype in dtypes:
        judge(case, large(case, (9, 11), (36, 44), dtype=dtype, weight="float"))
    for low, high in (((12, 9), (28, 21)), ((21, 28), (9, 12)), ((5, 6), (40, 48)), ((31, 12), (31, 24))):
        if torch.float32 in dtypes:
            judge(case, large(case, low, high, dtype=torch.float32))


@every_case(among=FOLDS)
@corners
@pytest.mark.parametrize(("low", "high"), [((2, 311), (5, 1244)), ((3, 520), (6, 1040)), ((311, 2), (1244, 3))], ids=str)
def test_wide_and_tall(case: Case, align_corners: bool, low: Size, high: Size, dtypes: list[torch.dtype]) -> None:
    """Rows longer than any block of pixels."""
    case = case.changed(align_corners=align_corners)
    for dtype in dtypes:
        judge(case, large(case, low, high, dtype=dtype, weight="bool"))


ANY_CLASSES = [case for case in FOLDS if not case.per_class and isinstance(case.options.get("classes", ""), str)]


@every_case(among=ANY_CLASSES)
@pytest.mark.parametrize("classes", [2, 21, 150, 257])
def test_numbers_of_classes(case: Case, classes: int, dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes if classes <= 21 else [torch.float32]:
        judge(case, large(case, (5, 6), (20, 24), classes=classes, dtype=dtype))


@every_case(among=ANY_CLASSES)
def test_one_class(case: Case, dtypes: list[torch.dtype]) -> None:
    """Its probability is 1 to rounding, and a node's gradient the sum of its sixteen pixels' roundings."""
    for dtype in dtypes:
        case = case.changed(link="softmax")
        result, gradient = evaluate(case.build(), large(case, (5, 6), (20, 24), classes=1, dtype=dtype))
        eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
        assert result.abs().max() <= 4 * eps and gradient.abs().max() <= 16 * eps


@every_case(among=FOLDS)
@pytest.mark.parametrize("ignore_index", [255, 1, -100])
def test_labels_of_every_dtype(case: Case, ignore_index: int, dtypes: list[torch.dtype]) -> None:
    case = case.changed(ignore_index=ignore_index)
    for dtype in dtypes:
        judge(case, large(case, (7, 8), (28, 32), dtype=dtype), torch.int64, torch.int32, torch.uint8)


@every_case(among=FOLDS)
@corners
@pytest.mark.parametrize(("low", "high"), [((9, 11), (36, 44)), ((9, 12), (21, 28)), ((14, 21), (6, 9))], ids=str)
def test_large_logits(case: Case, align_corners: bool, low: Size, high: Size, dtypes: list[torch.dtype]) -> None:
    """Standard deviation 25: within a cell one class's logit may rise by 100 and another's fall."""
    case = case.changed(align_corners=align_corners, link="softmax")
    for dtype in dtypes:
        judge(case, large(case, low, high, dtype=dtype, spread=25.0))


@every_case(among=FOLDS)
@corners
@pytest.mark.parametrize(("low", "high"), [((9, 11), (36, 44)), ((6, 8), (48, 64)), ((9, 12), (21, 28)), ((9, 7), (4, 5))], ids=str)
def test_one_hot_logits(case: Case, align_corners: bool, low: Size, high: Size, dtypes: list[torch.dtype]) -> None:
    """±1e4 between neighbours: exponentials of differences along a cell leave every range."""
    case = case.changed(align_corners=align_corners, link="softmax")
    data = large(case, low, high)
    hot = torch.nn.functional.one_hot(data.scores.argmax(1), case.classes).movedim(-1, 1).double()
    for dtype in dtypes:
        judge(case, Data((2e4 * hot - 1e4).to(dtype), data.labels), saturated=True)


@every_case(among=FOLDS)
@corners
def test_nodes_that_meet_far_below_their_maxima(case: Case, align_corners: bool, dtypes: list[torch.dtype]) -> None:
    """(0, -210) beside (-210, 0): halfway both are -105, and exp of that is nothing in float32."""
    case = case.changed(align_corners=align_corners, link="softmax")
    raw = torch.full((2, case.classes, 8, 9), -500.0, dtype=torch.float64)
    node = torch.arange(8)[:, None] + torch.arange(9)
    raw[:, 0], raw[:, 1] = -210.0 * (node % 2), -210.0 * (1 - node % 2)
    raw += torch.randn(raw.shape, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 64, 72))
    for dtype in dtypes:
        judge(case, Data(raw.to(dtype), labels))


@every_case()
def test_what_does_not_count_is_not_read(case: Case) -> None:
    """A node all of whose pixels are ignored may hold NaN or infinity; it gets no gradient."""
    data = large(case, (4, 5), (16, 20))
    data.labels[:, :6, :6] = case.ignore_index  # as far as the first node reaches, four times up
    truth, slope = evaluate(case.build(), data)
    for poison in (torch.nan, torch.inf, -torch.inf, 1e30):
        scores = data.scores.clone()
        scores[:, :, 0, 0] = poison
        result, gradient = evaluate(case.build(), Data(scores, data.labels))
        close(result, truth)
        close(gradient, slope)
        assert gradient[:, :, 0, 0].abs().max() == 0 and slope.abs().max() > 0


@pytest.mark.parametrize("engine", ENGINES)
@corners
def test_a_set_makes_one_pass_at_label_resolution(engine: str, align_corners: bool) -> None:
    """And the terms keep their values; another way of aligning is another pass."""
    options: dict[str, Any] = {"engine": engine, "align_corners": align_corners}
    terms = {
        "ce": lf.CrossEntropyLoss(**options),
        "dice": lf.DiceLoss(**options),
        "lovasz": lf.LovaszLoss(**options),
        "ohem": lf.OhemCrossEntropyLoss(min_kept=30, **options),
    }
    data = large(Case("", {}), (5, 6), (20, 24), weight="float")
    out = lf.LossSet(terms)(*data.call)
    for name, loss in terms.items():
        close(out.terms[name], loss(*data.call))
    assert len(lf.LossSet(terms).plan().splitlines()) == 1
    other = lf.FocalLoss(engine=engine, align_corners=not align_corners)
    assert len(lf.LossSet(terms | {"focal": other}).plan().splitlines()) == 2
    assert not torch.equal(other(*data.call), lf.FocalLoss(**options)(*data.call))


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_stay_between_their_nodes(engine: str) -> None:
    """With link="identity" it is the probabilities that are interpolated: a mean, not a softmax of means."""
    p = as_scores(torch.randn(1, 3, 2, 2, dtype=torch.float64), "identity")
    labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    loss = lf.CrossEntropyLoss(link="identity", engine=engine)
    close(loss(p, labels), -p[:, 0].mean().log())


def test_every_loss_is_here() -> None:
    """And takes the option: also the presets."""
    assert {case.name for case in cases()} == set(LABEL_LOSSES)
    for name in {case.name for case in cases()}:
        assert "align_corners=True" in repr(lf.LOSSES[name](align_corners=True))
