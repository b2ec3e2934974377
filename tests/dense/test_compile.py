"""The dense losses under torch.compile without graph breaks, and torch.library's checks of their operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate
from tests.dense.cases import DenseCase, every_dense_case, make_dense, one_case_a_loss
from tests.dense.steps import settled
from tests.operators import NAMESPACE, Watch

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
COMPILED = [
    DenseCase("BinaryCrossEntropyLoss", {"pos_weight": 3.0, "label_smoothing": 0.1}),
    DenseCase("BinaryCrossEntropyLoss", {"reduction": "none"}),
    DenseCase("CrossEntropyLoss", {"per_image": True}),
    DenseCase("FocalLoss", {"link": "sigmoid", "gamma": 0.5, "alpha": 0.25}),
    DenseCase("DiceLoss", {"link": "sigmoid"}),
    DenseCase("GeneralizedDiceLoss", {}),
    DenseCase("LovaszLoss", {"link": "hinge"}),
]


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(case: DenseCase, data: Data, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
    loss = case.build()
    leaf = data.leaf()
    run = torch.compile(lambda *given: loss(*given).sum(), fullgraph=True, backend=backend, **options)
    result = run(*leaf.call)
    (gradient,) = torch.autograd.grad(result, leaf.scores)
    return result.detach(), gradient


@every_dense_case(among=COMPILED)
def test_fullgraph(case: DenseCase) -> None:
    data = make_dense(case, (9, 11), weight="element")
    result, gradient = compiled(case, data, "aot_eager")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-13, 1e-14)
    close(gradient, slope, 1e-12, 1e-15)


@pytest.mark.slow
@every_dense_case()
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_fullgraph_of_every_sample(case: DenseCase, backend: str, dtype: torch.dtype) -> None:
    data = settled(case, make_dense(case, (9, 11), dtype=dtype, weight="element"))
    result, gradient = compiled(case, data, backend)
    truth, slope = evaluate(case.build(), data)
    coarse = dtype in (torch.bfloat16, torch.float16)
    close(result, truth.sum(), 1e-5, 1e-6)
    close(gradient, slope, 1e-2 if coarse else 1e-5, 1e-4 if coarse else 1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_fullgraph_with_shapes_that_change(engine: str) -> None:
    loss = lf.DiceLoss(link="sigmoid", engine=engine)
    run = torch.compile(lambda s, t: loss(s, t), fullgraph=True, backend="aot_eager", dynamic=True)
    for space in ((5, 6), (7, 4), (8, 8)):
        leaf = make_dense(DenseCase("DiceLoss", {"link": "sigmoid"}), space, dtype=torch.float32).leaf()
        result = run(leaf.scores, leaf.labels)
        (gradient,) = torch.autograd.grad(result, leaf.scores)
        truth, slope = evaluate(loss, leaf)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(gradient, slope, 1e-5, 1e-7)


def test_inductor_once() -> None:
    case = DenseCase("BinaryCrossEntropyLoss", {"reduction": "none"})
    data = make_dense(case, (9, 11), dtype=torch.float32, weight="element")
    result, gradient = compiled(case, data, "inductor")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-6, 1e-6)
    close(gradient, slope, 1e-5, 1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_out_of_range_surface_from_compiled_code(engine: str) -> None:
    case = DenseCase("BinaryCrossEntropyLoss", {"engine": engine})
    data = make_dense(case, dtype=torch.float32)
    data.labels[0, 0, 0, 0] = 255
    with pytest.raises((RuntimeError, lf.LossError)):
        compiled(case, data, "aot_eager")


@native
@every_dense_case(engines=["cpp"], among=one_case_a_loss())
def test_the_compiled_engine_runs_operators(case: DenseCase) -> None:
    """One fold and one unfold a call, and nothing of the kind from the definition."""
    with Watch() as watch:
        evaluate(case.build(), make_dense(case, weight="element"))
    assert watch.names == ["dense_map" if case.maps else "dense_fold", "dense_unfold"]
    with Watch() as watch:
        evaluate(case.changed(engine="eager").build(), make_dense(case))
    assert not watch.names


def recorded() -> list[Any]:
    """Operator calls over all losses, one for each operator, dtype, set of absent arguments and kind of fold."""
    seen: dict[str, Any] = {}
    for case in one_case_a_loss():
        if "cpp" not in case.engines:
            continue
        for dtype, target, weight in (
            (torch.float64, "soft", None),
            (torch.float16, "int", "pixel"),
            (torch.float64, "bool", "element"),
        ):
            with Watch() as watch:
                evaluate(case.changed(engine="cpp").build(), make_dense(case, (2, 3), target=target, dtype=dtype, weight=weight))
            for func, args, kwargs in watch.calls:
                tensors = [(a.dtype, a.ndim) if isinstance(a, Tensor) else a is None for a in args[:5] if not isinstance(a, int)]
                seen.setdefault(f"{func}{tensors}{case.link}{case.bins > 0}", (func, args, kwargs))
    return [pytest.param(*found, id=f"{found[0]}-{i}") for i, found in enumerate(seen.values())]


@native
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("operator", "args", "kwargs"), recorded())
def test_opcheck(operator: Any, args: Any, kwargs: Any) -> None:
    """The scores, which come first, ask for a gradient; the unfold is the gradient."""
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    if "unfold" not in operator._schema.name:
        copies[0].requires_grad_()
    torch.library.opcheck(operator, tuple(copies), kwargs)


@native
def test_every_operator_is_checked() -> None:
    seen = {found.values[0]._schema.name for found in recorded()}
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith(f"{NAMESPACE}::dense_")]
    assert schemas and seen == {schema.name for schema in schemas if schema.arguments}
