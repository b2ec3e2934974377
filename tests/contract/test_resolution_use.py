"""At label resolution as elsewhere: layouts, threads, derivatives, sets, compiled code, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Data, both_close, both_same, close, evaluate, run, same_bits, slope_of, value
from tests.contract.cases import native
from tests.contract.layouts import LAYOUTS
from tests.contract.refusals import refused
from tests.contract.test_resolution import FEW as CASES
from tests.contract.test_resolution import NAMES as IDS
from tests.contract.test_resolution import low
from tests.folds.label.cases import LabelCase, ScoreCase
from tests.internals import Watch

engines = pytest.mark.parametrize("engine", ENGINES)
by_itself = pytest.mark.parametrize("engine", [*(pytest.param(one, marks=pytest.mark.slow) for one in ENGINES[:-1]), ENGINES[-1]])
"""The engine that serves by itself in short runs, the others in long ones."""
NAMES = internals.folded("label")
FEW = [  # what is the engine's or the wrapper's, whatever the sums
    LabelCase("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "none"}),
    LabelCase("DiceLoss", {"squared": True, "align_corners": True}),
    LabelCase("LovaszLoss", {}),
    LabelCase("OhemCrossEntropyLoss", {"thresh": 0.3, "min_kept": 5, "align_corners": True}),
    LabelCase("OhemCrossEntropyLoss", {"top_k_ratio": 0.3, "per_image": True, "reduction": "none", "link": "identity"}),
]
few = pytest.mark.parametrize("case", FEW, ids=lambda case: case.id)
scores = pytest.mark.parametrize("case", CASES, ids=IDS)


@few
@engines
def test_strides_change_no_bit(case: LabelCase, engine: str, dtypes: list[torch.dtype]) -> None:
    loss = case.build(engine=engine)
    for i, dtype in enumerate(dtypes):
        data = low(case, (9, 11), (36, 44), dtype=dtype, way=("int64", "float"))
        truth = evaluate(loss, data)
        for j, layout in enumerate(LAYOUTS):
            other = LAYOUTS[(i + j) % len(LAYOUTS)]
            leaf = layout(data.pred).requires_grad_()
            result = run(loss, data.each(other).with_pred(leaf))
            both_same((result.detach(), slope_of(result, leaf).contiguous()), truth)


@scores
def test_repetition_layout_and_threads_change_no_bit(case: ScoreCase) -> None:
    """Of a strided gradient that comes in, too; threads are the compiled engine's."""
    corners = bool(CASES.index(case) % 2)
    case = case.changed(align_corners=corners)
    for engine in case.engines:
        loss = case.build(engine=engine)
        small, wide = ((9, 7), (41, 37)), ((90, 70), (41, 37)) if corners else ((31, 37), (124, 148))
        data = low(case, *(wide if engine == "cpp" else small), batch=2, dtype=torch.float32, way=case.rich)
        truth = evaluate(loss, data)
        for threads in (1, 2, 3) if engine == "cpp" else (1,):
            torch.set_num_threads(threads)
            both_same(evaluate(loss, data), truth)
        leaf = data.pred.movedim(1, -1).contiguous().movedim(-1, 1).requires_grad_()
        result = run(loss, data.with_pred(leaf))
        seed = torch.randn(result.shape)
        slope = slope_of(result, leaf, seed.mT.contiguous().mT if seed.dim() > 1 else seed).contiguous()
        same_bits(result.detach(), truth[0])
        same_bits(slope, evaluate(loss, data, seed)[1])


@scores
def test_first_and_second_derivatives(case: ScoreCase) -> None:
    case = case.changed(align_corners=bool(CASES.index(case) % 2))
    data = case.settled(low(case, (2, 3), (4, 5), way=case.rich), distance=2 * case.step).leaf()
    for engine in case.engines:
        loss = case.build(engine=engine)
        function = lambda pred, loss=loss: run(loss, data.with_pred(pred))  # noqa: E731
        assert torch.autograd.gradcheck(function, (data.pred,), eps=case.step, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (data.pred,), fast_mode=True)


@scores
def test_what_asks_for_nothing_and_what_counts_nothing(case: ScoreCase) -> None:
    data = low(case, (3, 4), (6, 8), way=("int64" if case.fold == "label" else "int", None))
    ignored = data.with_target(torch.full_like(data.truth, case.ignore_index)).leaf()
    for engine in case.engines:
        loss = case.build(engine=engine)
        truth = run(loss, data)
        assert not truth.requires_grad
        with torch.inference_mode():
            same_bits(run(loss, data).clone(), truth)
        result = run(loss, ignored)
        gradient = slope_of(result, ignored.pred)
        assert not result.any() and torch.equal(gradient, torch.zeros_like(gradient))


@engines
@pytest.mark.parametrize("align_corners", [False, True])
def test_a_set_makes_one_pass_at_label_resolution(engine: str, align_corners: bool) -> None:
    """And the terms keep their values; another way of aligning is another pass."""
    options: dict[str, Any] = {"engine": engine, "align_corners": align_corners}
    terms = {
        "ce": lf.CrossEntropyLoss(**options),
        "dice": lf.DiceLoss(**options),
        "lovasz": lf.LovaszLoss(**options),
        "ohem": lf.OhemCrossEntropyLoss(min_kept=30, **options),
    }
    data = low(LabelCase("DiceLoss", {}), (5, 6), (20, 24), way=("int64", "float"))
    out = lf.LossSet(terms)(*data.call)
    for name, loss in terms.items():
        close(out.terms[name], loss(*data.call))
    assert len(lf.LossSet(terms).plan().splitlines()) == 1
    other = lf.FocalLoss(engine=engine, align_corners=not align_corners)
    assert len(lf.LossSet(terms | {"focal": other}).plan().splitlines()) == 2
    assert not torch.equal(other(*data.call), lf.FocalLoss(**options)(*data.call))


def several(engine: str) -> lf.LossSet:
    """Two passes: corners and centres."""
    return lf.LossSet(
        ce=lf.CrossEntropyLoss(label_smoothing=0.1, engine=engine),
        dice=lf.DiceLoss(squared=True, align_corners=True, engine=engine),
        lovasz=lf.LovaszLoss(engine=engine),
        ohem=lf.OhemCrossEntropyLoss(thresh=0.3, min_kept=5, align_corners=True, engine=engine),
    )


@by_itself
def test_fullgraph(engine: str) -> None:
    torch._dynamo.reset()
    loss = several(engine)
    data = low(LabelCase("DiceLoss", {}), (5, 6), (20, 18), way=("int64", "float"))
    leaf = data.leaf()
    result = torch.compile(lambda *given: loss(*given).total, fullgraph=True, backend="aot_eager")(*leaf.call)
    truth, slope = evaluate(loss, data)
    close(result.detach(), truth, 1e-13, 1e-14)
    close(slope_of(result, leaf.pred), slope, 1e-12, 1e-15)


@pytest.mark.slow
@engines
def test_fullgraph_with_shapes_that_change(engine: str) -> None:
    """From the labels' size to another, and to the logits' own."""
    torch._dynamo.reset()
    loss = lf.DiceLoss(engine=engine)
    function = torch.compile(lambda s, y: loss(s, y), fullgraph=True, backend="aot_eager", dynamic=True)
    for nodes, pixels in (((5, 6), (20, 24)), ((4, 7), (12, 21)), ((9, 8), (5, 6)), ((8, 8), (8, 8))):
        leaf = low(LabelCase("DiceLoss", {}), nodes, pixels, dtype=torch.float32).leaf()
        result = function(leaf.pred, leaf.truth)
        truth, slope = evaluate(loss, leaf)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(slope_of(result, leaf.pred), slope, 1e-5, 1e-7)


@pytest.mark.slow
def test_inductor() -> None:
    """On the engine that serves by itself."""
    torch._dynamo.reset()
    loss = lf.CEDiceLoss()
    data = low(LabelCase("CEDiceLoss", {}), (5, 6), (20, 24), dtype=torch.float32, way=("int64", "float"))
    leaf = data.leaf()
    result = torch.compile(lambda *given: loss(*given).total, fullgraph=True)(*leaf.call)
    truth, slope = evaluate(loss, data)
    close(result.detach(), truth, 1e-6, 1e-6)
    close(slope_of(result, leaf.pred), slope, 1e-5, 1e-7)


@native
@few
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_operators(case: LabelCase) -> None:
    """One fold and one unfold, which torch.library finds in order."""
    for dtype, tests in ((torch.float64, internals.OPCHECKS), (torch.float16, internals.QUICK_OPCHECKS)):
        with Watch() as watch:
            evaluate(case.build(engine="cpp"), low(case, (2, 3), (4, 7), dtype=dtype))
        assert case.maps or watch.names == ["label_fold", "label_unfold"]
        for operator, args, kwargs in watch.calls:
            internals.opcheck(operator, args, kwargs, tests)


LOGITS = torch.randn(2, 5, 3, 4)
BAD: dict[str, tuple[tuple[Any, ...], list[str]]] = {
    "labels of another batch": ((LOGITS, torch.zeros(3, 6, 8, dtype=torch.int64)), ["labels", "2, ", "3, 6, 8"]),
    "labels of one image": ((LOGITS, torch.zeros(6, 8, dtype=torch.int64)), ["labels", "6, 8"]),
    "labels with a channel": ((LOGITS, torch.zeros(2, 1, 6, 8, dtype=torch.int64)), ["labels", "2, 1, 6, 8", "squeeze"]),
    "labels without pixels": ((LOGITS, torch.zeros(2, 0, 8, dtype=torch.int64)), ["labels", "2, 0, 8"]),
    "logits without nodes": ((LOGITS[:, :, :0], torch.zeros(2, 6, 8, dtype=torch.int64)), ["labels|logits", "2, 6, 8|2, 5, 0, 4"]),
    "a longer line": ((LOGITS[..., 0], torch.zeros(2, 6, dtype=torch.int64)), ["labels", "2, 3", "2, 6"]),
    "weights of the logits' size": (
        (LOGITS, torch.zeros(2, 6, 8, dtype=torch.int64), torch.ones(2, 3, 4)),
        ["weight", "2, 6, 8", "2, 3, 4"],
    ),
    "float labels": ((LOGITS, torch.zeros(2, 6, 8)), ["labels", "int64", "float32"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(name: str) -> None:
    for call, words in BAD.values():
        refused(lambda call=call: lf.LOSSES[name]()(*call), name, *words)


@engines
@pytest.mark.parametrize("name", NAMES)
def test_label_out_of_range(name: str, engine: str) -> None:
    for reduction in ("mean",) if issubclass(lf.LOSSES[name], lf.LossSet) else ("mean", "none"):
        loss = lf.LOSSES[name](engine=engine, reduction=reduction)
        for label in (5, 255, -1, -99):
            labels = torch.zeros(2, 6, 8, dtype=torch.int64)
            labels[1, 5, 7] = label
            refused(lambda loss=loss, labels=labels: loss(LOGITS, labels), rf"{name}.*labels.*\[0, 5\).*{label}")


@engines
@pytest.mark.parametrize("name", NAMES)
def test_meta_tensors(name: str, engine: str) -> None:
    labels = torch.zeros(2, 6, 8, dtype=torch.int64, device="meta")
    result = value(lf.LOSSES[name](engine=engine)(LOGITS.to("meta"), labels))
    assert result.device.type == "meta" and result.shape == ()


def test_the_same_size_is_no_interpolation() -> None:
    case = LabelCase("DiceLoss", {})
    data: Data = low(case, (6, 8), (6, 8))
    both_close(evaluate(case.build(), data), evaluate(case.changed(align_corners=True).build(), data))
