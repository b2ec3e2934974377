"""torch.compile without graph breaks, and torch.library's own checks of the operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import Case, Data, cases, close, evaluate, every_case, make, one_case_a_loss, value
from tests.operators import NAMESPACE, Watch
from tests.steps import settled


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(case: Case, data: Data, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
    """Value and gradient of the loss as a compiled function of its three arguments."""
    loss = case.build()

    def run(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        return value(loss(scores, labels, weight)).sum()

    leaf = data.leaf()
    result = torch.compile(run, fullgraph=True, backend=backend, **options)(*leaf.call)
    (gradient,) = torch.autograd.grad(result, leaf.scores)
    return result.detach(), gradient


def eager_sum(case: Case, data: Data) -> tuple[Tensor, Tensor]:
    result, gradient = evaluate(case.build(), data)
    return result.sum(), gradient


def assert_compiles(case: Case, backend: str) -> None:
    """The compiled graph makes the same pass, so that only the formula's last rounding may differ."""
    data = make(case, (9, 11), weight="float")
    result, gradient = compiled(case, data, backend)
    truth, slope = eager_sum(case, data)
    close(result, truth, 1e-13, 1e-14)
    close(gradient, slope, 1e-12, 1e-15)


@every_case(among=one_case_a_loss())
def test_fullgraph(case: Case) -> None:
    assert_compiles(case, "aot_eager")


@pytest.mark.slow
@every_case()
def test_fullgraph_of_every_sample(case: Case) -> None:
    assert_compiles(case, "aot_eager")


@pytest.mark.parametrize("engine", lf.engines.available())
@pytest.mark.parametrize("link", ["softmax", "identity"])
def test_fullgraph_with_shapes_that_change(engine: str, link: str) -> None:
    case = Case("DiceLoss", {"engine": engine, "link": link})
    loss = case.build()
    run = torch.compile(lambda s, y: value(loss(s, y)), fullgraph=True, backend="aot_eager", dynamic=True)
    for space in ((5, 6), (7, 4), (8, 8)):
        data = make(case, space, dtype=torch.float32)
        leaf = data.leaf()
        result = run(leaf.scores, leaf.labels)
        (gradient,) = torch.autograd.grad(result, leaf.scores)
        truth, slope = evaluate(loss, data)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(gradient, slope, 1e-5, 1e-7)


ONCE = [
    Case("CEDiceLoss", {}),
    Case("FocalLoss", {"reduction": "none"}),
    Case("LovaszLoss", {}),
    Case("OhemCrossEntropyLoss", {"min_kept": 20}),
]


@pytest.mark.parametrize("case", ONCE, ids=lambda case: case.id)
def test_inductor_once_a_fold(case: Case) -> None:
    """On the engine that serves by itself; every loss on every engine is left to the slow matrix."""
    data = settled(case, make(case, (9, 11), dtype=torch.float32, weight="float"))
    result, gradient = compiled(case, data, "inductor")
    truth, slope = eager_sum(case, data)
    close(result, truth, 1e-6, 1e-6)
    close(gradient, slope, 1e-5, 1e-7)


@pytest.mark.slow
@every_case()
@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor(case: Case, dynamic: bool, dtype: torch.dtype) -> None:
    data = settled(case, make(case, (9, 11), dtype=dtype, weight="float"))
    result, gradient = compiled(case, data, "inductor", dynamic=dynamic)
    truth, slope = eager_sum(case, data)
    coarse = dtype in (torch.bfloat16, torch.float16)
    close(result, truth, 1e-5, 1e-6)
    close(gradient, slope, 1e-2 if coarse else 1e-5, 1e-4 if coarse else 1e-7)


def test_labels_out_of_range_surface_from_compiled_code() -> None:
    for engine in lf.engines.available():
        case = Case("DiceLoss", {"engine": engine})
        data = make(case, dtype=torch.float32)
        data.labels[0, 0, 0] = case.classes
        with pytest.raises((RuntimeError, lf.LossError, IndexError)):
            compiled(case, data, "aot_eager")


native = pytest.mark.skipif("cpp" not in lf.engines.available(), reason="no compiled engine here")


@native
@every_case(engines=["cpp"])
def test_the_compiled_engine_runs_operators(case: Case) -> None:
    """One fold and one unfold a call, and nothing of the kind from the definition."""
    with Watch() as watch:
        evaluate(case.build(), make(case, weight="float"))
    folds = watch.count("label_fold") + watch.count("label_map")
    assert folds >= 1 and watch.count("label_unfold") + watch.count("label_map") >= 1
    if case.options.get("reduction") != "none":
        assert watch.names == ["label_fold", "label_unfold"]
    with Watch() as watch:
        evaluate(case.changed(engine="eager").build(), make(case))
    assert not watch.names


def recorded() -> list[Any]:
    """Operator calls over all losses, one for each operator, dtype, set of absent arguments and kind of fold."""
    seen: dict[str, Any] = {}
    for case in [case for case in cases() if "cpp" in case.engines]:
        for dtype in (torch.float64, torch.float16):
            for weight in (None, "float"):
                with Watch() as watch:
                    evaluate(case.changed(engine="cpp").build(), make(case, (2, 3), dtype=dtype, weight=weight))
                for func, args, kwargs in watch.calls:
                    tensors = [(a.dtype, a.ndim) if isinstance(a, Tensor) else a is None for a in args]
                    kind = case.name if case.name in ("LovaszLoss", "OhemCrossEntropyLoss") else ""
                    seen.setdefault(f"{func}{tensors}{case.link}{kind}", (func, args, kwargs))
    return [pytest.param(*call, id=f"{call[0]}-{i}") for i, call in enumerate(seen.values())]


@native
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize(("operator", "args", "kwargs"), recorded())
def test_opcheck(operator: Any, args: Any, kwargs: Any) -> None:
    """The scores, which come first, ask for a gradient; the unfold is the gradient."""
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    if "unfold" not in operator._schema.name:
        copies[0].requires_grad_()
    torch.library.opcheck(operator, tuple(copies), kwargs)


@native
def test_every_operator_is_checked() -> None:
    """The label fold's operators that take tensors are the ones that the losses above were seen to call."""
    seen = {call.values[0]._schema.name for call in recorded()}
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith(f"{NAMESPACE}::label_")]
    registered = {schema.name for schema in schemas if schema.arguments}
    assert registered and seen == registered
