"""The losses of a pair under torch.compile without graph breaks, and torch.library's checks of their operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, close
from tests.operators import NAMESPACE, Watch
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, one_case_a_loss, run

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(case: PairCase, data: PairData, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
    loss = case.build()
    leaf = data.leaf()
    function = torch.compile(
        lambda *given: run(loss, PairData(given[0], given[1:-1], given[-1])).sum(), fullgraph=True, backend=backend, **options
    )
    result = function(*leaf.call)
    (gradient,) = torch.autograd.grad(result, leaf.pred)
    return result.detach(), gradient


@every_pair_case(among=[case for case in one_case_a_loss() if not case.maps])
def test_fullgraph(case: PairCase) -> None:
    data = make_pair(case, (9, 11))
    result, gradient = compiled(case, data, "aot_eager")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-13, 1e-14)
    close(gradient, slope, 1e-12, 1e-15)


@pytest.mark.slow
@every_pair_case()
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_fullgraph_of_every_sample(case: PairCase, backend: str, dtype: torch.dtype) -> None:
    data = make_pair(case, (9, 11), dtype=dtype)
    result, gradient = compiled(case, data, backend)
    truth, slope = evaluate(case.build(), data)
    coarse = dtype in (torch.bfloat16, torch.float16)
    close(result, truth.sum(), 1e-5, 1e-6)
    close(gradient, slope, 1e-2 if coarse else 1e-5, 1e-4 if coarse else 1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_fullgraph_with_shapes_that_change(engine: str) -> None:
    """The operators of the compiled engine also with a pyramid: the sides of each level follow those of the image."""
    pyramid = [lf.LaplacianPyramidLoss(levels=2, engine=engine)] if engine == "cpp" else []
    loss = lf.MattingLoss(losses=["unknown_l1_loss", *pyramid], engine=engine)
    function = torch.compile(lambda *given: loss(*given).total, fullgraph=True, backend="aot_eager", dynamic=True)
    for space in ((20, 16), (17, 31), (16, 16)):
        data = make_pair(PairCase("MattingLoss", {}), space, dtype=torch.float32).leaf()
        result = function(*data.call)
        (gradient,) = torch.autograd.grad(result, data.pred)
        truth, slope = evaluate(loss, data)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(gradient, slope, 1e-5, 1e-7)


def test_inductor_once() -> None:
    case = PairCase("MattingLoss", {"losses": ["unknown_l1_loss", "known_l1_loss"]})
    data = make_pair(case, (24, 20), dtype=torch.float32)
    result, gradient = compiled(case, data, "inductor")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-6, 1e-6)
    close(gradient, slope, 1e-5, 1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_regions_out_of_range_surface_from_compiled_code(engine: str) -> None:
    case = PairCase("UnknownL1Loss", {"engine": engine})
    data = make_pair(case, dtype=torch.float32)
    assert data.region is not None
    data.region[0, 0, 0, 0] = 128
    with pytest.raises((RuntimeError, lf.LossError), match="region"):
        compiled(case, data, "aot_eager")


@native
@every_pair_case(engines=["cpp"], among=[case for case in one_case_a_loss() if not case.maps])
def test_the_compiled_engine_runs_operators(case: PairCase) -> None:
    """One fold and one unfold a call, and nothing of the kind from the definition."""
    with Watch() as watch:
        evaluate(case.build(), make_pair(case))
    assert watch.names == ["pair_fold", "pair_unfold"]
    with Watch() as watch:
        evaluate(case.changed(engine="eager").build(), make_pair(case))
    assert not watch.names


def recorded() -> list[Any]:
    """Operator calls of sums over pixels, of edges, of pyramids and of all of them, with and without maps."""
    terms = ["unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty", "known_smooth_l1_loss"]
    calls = [
        ("MSELoss", {}, None, torch.float64),
        ("CharbonnierLoss", {"link": "sigmoid"}, "channels", torch.float32),
        ("HuberLoss", {}, "bool", torch.float16),
        ("KnownL1Loss", {}, "soft", torch.float64),
        ("MattingGradientLoss", {"padding": "zeros"}, "bool", torch.float64),
        ("LaplacianPyramidLoss", {"levels": 2, "residual": True}, None, torch.float64),
        ("LaplacianPyramidLoss", {"levels": 5, "link": "sigmoid"}, "soft", torch.bfloat16),
        ("TVLoss", {"order": "l2", "link": "sigmoid"}, "soft", torch.float64),
        ("MaskedTVLoss", {}, None, torch.float16),
        ("MattingLoss", {"losses": terms}, "soft", torch.float64),
    ]
    found = []
    for name, options, region, dtype in calls:
        case = PairCase(name, {**options, "engine": "cpp"})
        with Watch() as watch:
            evaluate(case.build(), make_pair(case, (8, 6), channels=2, region=region, dtype=dtype))
        found += [pytest.param(*call, id=f"{call[0]}-{case.id}") for call in watch.calls]
    return found


OPERATORS = recorded() if "cpp" in ENGINES else []


@native
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("operator", "args", "kwargs"), OPERATORS)
def test_opcheck(operator: Any, args: Any, kwargs: Any) -> None:
    """The predictions, which come first, ask for a gradient; the unfold is the gradient."""
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    if "unfold" not in operator._schema.name:
        copies[0].requires_grad_()
    torch.library.opcheck(operator, tuple(copies), kwargs)


@native
def test_every_operator_is_checked() -> None:
    seen = {found.values[0]._schema.name for found in OPERATORS}
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith(f"{NAMESPACE}::pair_")]
    assert schemas and seen == {schema.name for schema in schemas if schema.arguments}
