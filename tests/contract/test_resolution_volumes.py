"""Volumes at label resolution, as images in `test_resolution`: trilinear interpolation and then the loss, to rounding."""

from __future__ import annotations

import itertools

import pytest
import torch

import lossfold as lf
from lossfold.folds.dense import triton as dense
from lossfold.folds.dense.spec import DenseSpec
from lossfold.folds.label import triton as label
from lossfold.folds.label.spec import LabelSpec
from tests import internals
from tests.contract.case import ENGINES, both_same, close, evaluate, run, same_bits, slope_of
from tests.contract.cases import first_of, native
from tests.contract.layouts import LAYOUTS
from tests.contract.test_resolution import A_PASS, FEW, Size, low, to_ten_digits, turned
from tests.folds.label.cases import LabelCase, ScoreCase
from tests.internals import Watch

RATIOS: dict[str, tuple[Size, Size]] = {  # scores, targets
    "2": ((2, 3, 4), (4, 6, 8)),
    "4": ((2, 2, 3), (8, 8, 12)),
    "8": ((2, 1, 2), (16, 8, 16)),
    "3": ((3, 2, 2), (9, 6, 6)),
    "7/3": ((3, 3, 3), (7, 7, 7)),
    "1/2": ((6, 4, 8), (3, 2, 4)),
    "3/7": ((7, 7, 7), (3, 3, 3)),
    "up, down and neither": ((2, 7, 3), (9, 3, 3)),
    "in depth alone": ((3, 4, 5), (7, 4, 5)),
    "in planes alone": ((3, 4, 5), (3, 9, 10)),
    "one plane": ((1, 3, 4), (5, 6, 8)),
    "to one plane": ((5, 3, 4), (1, 6, 8)),
    "one node": ((1, 1, 1), (3, 4, 5)),
    "to one voxel": ((2, 3, 4), (1, 1, 1)),
}
SHARES = 6  # that the ratios are dealt out in; short runs take the first
NAMES = [f"{case.fold}-{case.id}" for case in FEW]
CHUNKS: tuple[tuple[Size, Size], ...] = (  # several behind one another, and in planes beside one another
    ((3, 12, 10), (9, 96, 90)),
    ((6, 120, 9), (5, 96, 90)),
)
USE = [
    LabelCase("CEDiceLoss", {"label_smoothing": 0.1}),
    LabelCase("LovaszLoss", {"exact": False, "align_corners": True}),
    LabelCase("OhemCrossEntropyLoss", {"thresh": 0.3, "min_kept": 5, "reduction": "none"}),
    *first_of(
        lambda case: case.name,
        (case for case in FEW if case.fold == "dense" and case.name in ("BinaryCrossEntropyLoss", "BoundaryLoss")),
    ),
]
use = pytest.mark.parametrize("case", USE, ids=lambda case: f"{case.fold}-{case.id}")


@pytest.mark.parametrize("case", A_PASS, ids=lambda case: f"{case.fold}-{case.id}")
@pytest.mark.parametrize("share", [0, *(pytest.param(other, marks=pytest.mark.slow) for other in range(1, SHARES))])
def test_every_ratio(case: ScoreCase, share: int) -> None:
    """All cases together meet every ratio in the first share alone."""
    place = A_PASS.index(case)
    for i, (nodes, voxels) in enumerate(RATIOS.values()):
        if (i + place) % SHARES == share:
            one, way = turned(case, place // SHARES + i)
            to_ten_digits(one, low(one, nodes, voxels, way=way))


@pytest.mark.parametrize("case", FEW, ids=NAMES)
def test_no_worse_than_plain_pytorch(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    """In half precision, too, where every plane of labels adds to the gradient of two planes of scores."""
    place, sizes = (
        FEW.index(case),
        [((3, 4, 5), (12, 16, 20)), ((4, 5, 3), (9, 7, 7)), ((5, 6, 4), (3, 4, 6)), ((2, 2, 3), (16, 16, 24))],
    )
    for i, dtype in enumerate(dtypes):
        one, way = turned(case, place + i)
        to_ten_digits(one, low(one, *sizes[(place + i) % len(sizes)], dtype=dtype, way=way))


@use
def test_layouts_and_threads_change_no_bit(case: ScoreCase) -> None:
    """Chunks share planes and rows of scores, and threads of the compiled engine take whichever comes next."""
    for engine in case.engines:
        loss = case.build(engine=engine)
        data = low(case, *CHUNKS[0], batch=1, dtype=torch.float32, way=case.rich)
        truth = evaluate(loss, data)
        for threads in (1, 2, 3) if engine == "cpp" else (1,):
            torch.set_num_threads(threads)
            both_same(evaluate(loss, data), truth)
        for layout in LAYOUTS if engine == "cpp" else LAYOUTS[:1]:
            leaf = layout(data.pred).requires_grad_()
            result = run(loss, data.each(layout).with_pred(leaf))
            same_bits(result.detach(), truth[0])
            if result.dim() == 0:
                same_bits(slope_of(result, leaf).contiguous(), truth[1])


@native
@use
def test_chunks_meet(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    """What several chunks add to the planes and rows between them is what one pass over all of it gives."""
    for i, (nodes, voxels) in enumerate(CHUNKS):
        one, way = turned(case, USE.index(case) + i)
        to_ten_digits(one, low(one, nodes, voxels, batch=1, dtype=dtypes[(USE.index(case) + i) % len(dtypes)], way=way))


@use
def test_first_and_second_derivatives(case: ScoreCase) -> None:
    data = case.settled(low(case, (2, 3, 2), (4, 4, 3), way=case.rich), distance=2 * case.step).leaf()
    for engine in case.engines:
        loss = case.build(engine=engine)
        function = lambda pred, loss=loss: run(loss, data.with_pred(pred))  # noqa: E731
        assert torch.autograd.gradcheck(function, (data.pred,), eps=case.step, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (data.pred,), fast_mode=True)


@pytest.mark.parametrize("case", [case for case in USE if case.fold == "label"], ids=lambda case: case.id)
def test_what_does_not_count_is_not_read(case: LabelCase) -> None:
    """A node all of whose voxels are ignored may hold NaN or infinity; it gets no gradient."""
    data = low(case, (3, 4, 4), (12, 16, 16))
    data.truth[:, :6, :6, :6] = case.ignore_index  # as far as the first node reaches, four times up
    for engine in case.engines:
        truth, slope = evaluate(case.build(engine=engine), data)
        for poison in (torch.nan, torch.inf, -torch.inf, 1e30):
            scores = data.pred.clone()
            scores[:, :, 0, 0, 0] = poison
            result, gradient = evaluate(case.build(engine=engine), data.with_pred(scores))
            close(result, truth)
            close(gradient, slope)
            assert gradient[:, :, 0, 0, 0].abs().max() == 0 and slope.abs().max() > 0


@native
def test_the_compiled_engine_serves_by_itself() -> None:
    """One fold and one unfold for a set, one pass for what is linear in its sums; no operator of PyTorch interpolates."""
    data = low(LabelCase("CEDiceLoss", {}), (2, 3, 3), (4, 6, 9), dtype=torch.float32)
    for loss, names in ((lf.CEDiceLoss(), ["label_fold", "label_unfold"]), (lf.CrossEntropyLoss(), ["label_once"])):
        with Watch() as watch:
            evaluate(loss, data)
        assert watch.names == names
        for operator, args, kwargs in watch.calls:
            internals.opcheck(operator, args, kwargs, internals.QUICK_OPCHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_fullgraph(engine: str) -> None:
    torch._dynamo.reset()
    loss = lf.CEDiceLoss(engine=engine)
    leaf = low(LabelCase("CEDiceLoss", {}), (2, 3, 3), (4, 6, 9), way=("int64", "float")).leaf()
    result = torch.compile(lambda *given: loss(*given).total, fullgraph=True, backend="aot_eager")(*leaf.call)
    truth, slope = evaluate(loss, leaf)
    close(result.detach(), truth, 1e-13, 1e-14)
    close(slope_of(result, leaf.pred), slope, 1e-12, 1e-15)


def test_every_engine_has_volumes_of_another_size() -> None:
    """That of GPUs as well, whether or not there is one here."""
    labels, masks = torch.zeros(1, 4, 6, 8, dtype=torch.int64), torch.zeros(1, 2, 4, 6, 8)
    of_labels, of_masks = (loss.needs().spec for loss in (lf.DiceLoss(), lf.BinaryCrossEntropyLoss()))
    assert isinstance(of_labels, LabelSpec) and isinstance(of_masks, DenseSpec)
    scores = torch.zeros(1, 2, 2, 3, 4)
    for lacks in (label.lacks(of_labels, scores, labels), dense.lacks(of_masks, scores, masks)):
        assert lacks("cpp") == lacks("triton") == lacks("eager") == ""


def test_a_volume_that_is_the_same_in_every_plane() -> None:
    """It is its plane: the value, and the gradient shared out among the planes."""
    case = LabelCase("CrossEntropyLoss", {})
    flat = low(case, (3, 4), (12, 16))
    deep = flat.with_pred(flat.pred[:, :, None].expand(-1, -1, 3, -1, -1)).with_target(flat.truth[:, None].expand(-1, 12, -1, -1))
    for engine, corners in itertools.product(ENGINES, (False, True)):
        loss = case.build(engine=engine, align_corners=corners)
        (value, slope), (deep_value, deep_slope) = evaluate(loss, flat), evaluate(loss, deep)
        close(deep_value, value)
        close(deep_slope.sum(2), slope)
