"""At label resolution as elsewhere: layouts, threads, derivatives, compiled code, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, LABEL_LOSSES, Case, Data, cases, close, evaluate, every_case, one_case_a_fold, same_bits, value
from tests.contract.test_compile import compiled, eager_sum
from tests.contract.test_gradients import step
from tests.contract.test_label_resolution import corners, large
from tests.contract.test_layout import LAYOUTS
from tests.operators import Watch
from tests.steps import settled

FOLDS = one_case_a_fold()
FEW = [  # what is the engine's or the wrapper's, whatever the sums
    Case("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "none"}),
    Case("DiceLoss", {"squared": True, "align_corners": True}),
    Case("LovaszLoss", {}),
    Case("OhemCrossEntropyLoss", {"thresh": 0.3, "min_kept": 5, "align_corners": True}),
    Case("OhemCrossEntropyLoss", {"top_k_ratio": 0.3, "per_image": True, "reduction": "none", "link": "identity"}),
]
NAMES = LABEL_LOSSES


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_case(among=FEW)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_no_bit(case: Case, layout: Callable[[Tensor], Tensor], dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes:
        data = large(case, (9, 11), (36, 44), dtype=dtype, weight="float")
        assert data.weight is not None
        loss = case.build()
        truth, slope = evaluate(loss, data)
        leaf = layout(data.scores).requires_grad_()
        assert torch.equal(leaf, data.scores)
        flat = layout.__name__ == "channels_last"
        labels, weight = (data.labels, data.weight) if flat else (layout(data.labels), layout(data.weight))
        result = value(loss(leaf, labels, weight))
        (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
        same_bits(result.detach(), truth)
        same_bits(gradient.contiguous(), slope)


@every_case(among=FOLDS)
@corners
def test_threads_and_repetition_change_no_bit(case: Case, align_corners: bool) -> None:
    case = case.changed(align_corners=align_corners)
    low, high = ((90, 70), (41, 37)) if align_corners else ((31, 37), (124, 148))
    data = large(case, low, high, batch=3, dtype=torch.float32, weight="float")
    results = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        results.append(evaluate(case.build(), data))
    for result, gradient in results[1:]:
        same_bits(result, results[0][0])
        same_bits(gradient, results[0][1])


@every_case(among=FEW)
def test_a_strided_incoming_gradient(case: Case) -> None:
    data = large(case, (5, 5), (15, 15), dtype=torch.float32)
    loss = case.build()
    seed = torch.randn(evaluate(loss, data)[0].shape)
    _, slope = evaluate(loss, data, seed)
    _, gradient = evaluate(loss, data, seed.mT.contiguous().mT if seed.ndim > 1 else seed)
    same_bits(gradient, slope)


def smooth(case: Case) -> Data:
    """A few pixels away from the steps of the gradient."""
    data = settled(case, large(case, (2, 3), (4, 5), weight="float"), distance=step(case))
    assert (data.labels != case.ignore_index).sum() >= 6
    return data.leaf()


@every_case(among=FOLDS)
@corners
def test_gradcheck(case: Case, align_corners: bool) -> None:
    data = smooth(case.changed(align_corners=align_corners))
    loss = case.changed(align_corners=align_corners).build()
    assert torch.autograd.gradcheck(
        lambda scores: value(loss(scores, data.labels, data.weight)), (data.scores,), eps=step(case), fast_mode=True
    )


@every_case(among=FOLDS)
@corners
def test_gradgradcheck(case: Case, align_corners: bool) -> None:
    data = smooth(case.changed(align_corners=align_corners))
    loss = case.changed(align_corners=align_corners).build()
    assert torch.autograd.gradgradcheck(
        lambda scores: value(loss(scores, data.labels, data.weight)), (data.scores,), fast_mode=True
    )


@every_case(among=FOLDS)
def test_no_graph_without_a_request(case: Case) -> None:
    data = large(case, (3, 4), (6, 8))
    with torch.inference_mode():
        result = value(case.build()(*data.call))
    truth = value(case.build()(*data.call))
    assert not truth.requires_grad
    close(result.clone(), truth, 0, 0)


@every_case(among=FEW)
def test_fullgraph(case: Case) -> None:
    data = large(case, (5, 6), (20, 18), weight="float")
    result, gradient = compiled(case, data, "aot_eager")
    truth, slope = eager_sum(case, data)
    close(result, truth, 1e-13, 1e-14)
    close(gradient, slope, 1e-12, 1e-15)


@pytest.mark.parametrize("engine", ENGINES)
def test_fullgraph_with_shapes_that_change(engine: str) -> None:
    """From the labels' size to another, and to the logits' own."""
    loss = lf.LossSet(ce=lf.CrossEntropyLoss(engine=engine), dice=lf.DiceLoss(engine=engine))
    run = torch.compile(lambda s, y: value(loss(s, y)), fullgraph=True, backend="aot_eager", dynamic=True)
    for low, high in (((5, 6), (20, 24)), ((4, 7), (12, 21)), ((9, 8), (5, 6)), ((8, 8), (8, 8))):
        data = large(Case("DiceLoss", {}), low, high, dtype=torch.float32)
        leaf = data.leaf()
        result = run(leaf.scores, leaf.labels)
        truth, slope = evaluate(loss, data)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(torch.autograd.grad(result, leaf.scores)[0], slope, 1e-5, 1e-7)


def test_inductor() -> None:
    """On the engine that serves by itself."""
    case = Case("CEDiceLoss", {})
    data = large(case, (5, 6), (20, 24), dtype=torch.float32, weight="float")
    result, gradient = compiled(case, data, "inductor")
    truth, slope = eager_sum(case, data)
    close(result, truth, 1e-6, 1e-6)
    close(gradient, slope, 1e-5, 1e-7)


native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


@native
@every_case(engines=["cpp"], among=FOLDS)
def test_one_fold_and_one_unfold(case: Case) -> None:
    data = large(case, (3, 4), (6, 8), weight="float")
    with Watch() as watch:
        evaluate(case.build(), data)
    assert watch.count("label_fold") + watch.count("label_map") >= 1
    if case.options.get("reduction") != "none":
        assert watch.names == ["label_fold", "label_unfold"]


def recorded() -> list[Any]:
    found = []
    for case in FEW if "cpp" in ENGINES else ():
        for dtype in (torch.float64, torch.float16):
            with Watch() as watch:
                evaluate(case.changed(engine="cpp").build(), large(case, (2, 3), (4, 7), dtype=dtype))
            found += [pytest.param(*call, id=f"{call[0]}-{dtype}-{case.id}") for call in watch.calls]
    return found


@native
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize(("operator", "args", "kwargs"), recorded())
def test_opcheck(operator: Any, args: Any, kwargs: Any) -> None:
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    if "unfold" not in operator._schema.name:
        copies[0].requires_grad_()
    torch.library.opcheck(operator, tuple(copies), kwargs)


LOGITS = torch.randn(2, 5, 3, 4)
BAD: dict[str, tuple[tuple[Any, ...], list[str]]] = {
    "labels of another batch": ((LOGITS, torch.zeros(3, 6, 8, dtype=torch.int64)), ["labels", "2, ", "3, 6, 8"]),
    "labels of one image": ((LOGITS, torch.zeros(6, 8, dtype=torch.int64)), ["labels", "6, 8"]),
    "labels with a channel": ((LOGITS, torch.zeros(2, 1, 6, 8, dtype=torch.int64)), ["labels", "2, 1, 6, 8", "squeeze"]),
    "labels without pixels": ((LOGITS, torch.zeros(2, 0, 8, dtype=torch.int64)), ["labels", "2, 0, 8"]),
    "logits without nodes": ((LOGITS[:, :, :0], torch.zeros(2, 6, 8, dtype=torch.int64)), ["labels|logits", "2, 6, 8|2, 5, 0, 4"]),
    "a longer line": ((LOGITS[..., 0], torch.zeros(2, 6, dtype=torch.int64)), ["labels", "2, 3", "2, 6"]),
    "a larger volume": ((LOGITS[..., None], torch.zeros(2, 6, 8, 2, dtype=torch.int64)), ["labels", "2, 3, 4, 1", "2, 6, 8, 2"]),
    "weights of the logits' size": (
        (LOGITS, torch.zeros(2, 6, 8, dtype=torch.int64), torch.ones(2, 3, 4)),
        ["weight", "2, 6, 8", "2, 3, 4"],
    ),
    "float labels": ((LOGITS, torch.zeros(2, 6, 8)), ["labels", "int64", "float32"]),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(name: str, what: str) -> None:
    call, words = BAD[what]
    for word in (name, *words):
        with pytest.raises(lf.LossError, match=word):
            lf.LOSSES[name]()(*call)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("label", [5, 255, -1, -99])
@pytest.mark.parametrize("name", NAMES)
def test_label_out_of_range(name: str, label: int, engine: str) -> None:
    for reduction in ("mean", "none") if name != "CEDiceLoss" else ("mean",):
        labels = torch.zeros(2, 6, 8, dtype=torch.int64)
        labels[1, 5, 7] = label
        with pytest.raises(lf.LossError, match=rf"{name}.*labels.*\[0, 5\).*{label}"):
            lf.LOSSES[name](engine=engine, reduction=reduction)(LOGITS, labels)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_meta_tensors(name: str, engine: str) -> None:
    labels = torch.zeros(2, 6, 8, dtype=torch.int64, device="meta")
    result = value(lf.LOSSES[name](engine=engine)(LOGITS.to("meta"), labels))
    assert result.device.type == "meta" and result.shape == ()


@every_case(among=[case for case in cases() if case.options.get("reduction") != "none"])
def test_nothing_counted(case: Case) -> None:
    data = large(case, (3, 4), (6, 8)).leaf()
    result = value(case.build()(data.scores, torch.full_like(data.labels, case.ignore_index)))
    (gradient,) = torch.autograd.grad(result, data.scores)
    assert result == 0 and torch.equal(gradient, torch.zeros_like(gradient))
