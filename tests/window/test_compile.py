"""The window losses under torch.compile without graph breaks, and torch.library's checks of their operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, close
from tests.operators import NAMESPACE, Watch
from tests.window.cases import WindowCase, WindowData, evaluate, every_window_case, make_images, run, samples, small, window_cases

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(case: WindowCase, data: WindowData, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
    loss = case.build()
    leaf = data.leaf()
    function = torch.compile(lambda *given: run(loss, WindowData(*given)).sum(), fullgraph=True, backend=backend, **options)
    result = function(*leaf.call)
    (gradient,) = torch.autograd.grad(result, leaf.pred)
    return result.detach(), gradient


@every_window_case(
    among=[WindowCase("SSIMLoss", {"window_size": 3}), WindowCase("MSSSIMLoss", {"betas": (0.4, 0.6), "window_size": 3})]
)
def test_fullgraph(case: WindowCase) -> None:
    data = make_images(case, weight="soft")
    result, gradient = compiled(case, data, "aot_eager")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-13, 1e-14)
    close(gradient, slope, 1e-12, 1e-15)


@pytest.mark.slow
@every_window_case(among=[small(case) for case in window_cases()])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_fullgraph_of_every_sample(case: WindowCase, backend: str, dtype: torch.dtype) -> None:
    data = make_images(case, dtype=dtype, weight="soft")
    result, gradient = compiled(case, data, backend)
    truth, slope = evaluate(case.build(), data)
    coarse = dtype in (torch.bfloat16, torch.float16)
    close(result, truth.sum(), 1e-5, 1e-6)
    close(gradient, slope, 1e-2 if coarse else 1e-4, 1e-4 if coarse else 1e-6)


@native
def test_fullgraph_with_shapes_that_change() -> None:
    case = WindowCase("MSSSIMLoss", {"betas": (0.4, 0.6), "padding": "reflect", "engine": "cpp"})
    loss = case.build()
    function = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for space in ((28, 31), (37, 24), (24, 24)):
        data = make_images(case, space, dtype=torch.float32, weight="soft").leaf()
        result = function(*data.call)
        (gradient,) = torch.autograd.grad(result, data.pred)
        truth, slope = evaluate(loss, data)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(gradient, slope, 1e-5, 1e-7)


@native
def test_inductor_once() -> None:
    """The definition's sums are long programs for it: `make test-all` has them."""
    case = WindowCase("SSIMLoss", {"engine": "cpp"})
    data = make_images(case, (24, 20), dtype=torch.float32)
    result, gradient = compiled(case, data, "inductor")
    truth, slope = evaluate(case.build(), data)
    close(result, truth, 1e-6, 1e-6)
    close(gradient, slope, 1e-4, 1e-6)


@native
@every_window_case(engines=["cpp"], among=samples())
def test_the_compiled_engine_runs_operators(case: WindowCase) -> None:
    """One fold and one unfold a scale, and nothing of the kind from the definition."""
    scales = len(case.options.get("betas", [1.0]))
    with Watch() as watch:
        evaluate(case.build(), make_images(case))
    assert watch.names == ["window_fold"] * scales + ["window_unfold"] * scales
    with Watch() as watch:
        evaluate(case.changed(engine="eager").build(), make_images(case))
    assert not watch.names


def recorded() -> list[Any]:
    """Operator calls with and without weights, in every dtype."""
    calls = [
        (None, torch.float64, {}),
        ("soft", torch.float32, {"padding": "reflect"}),
        ("channels", torch.float16, {"data_range": 2.0}),
        ("bool", torch.bfloat16, {"window_size": 1}),
    ]
    found = []
    for weight, dtype, options in calls:
        case = WindowCase("SSIMLoss", {"window_size": 5, **options, "engine": "cpp"})
        with Watch() as watch:
            evaluate(case.build(), make_images(case, (8, 9), weight=weight, dtype=dtype))
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
    schemas = [s for s in torch._C._jit_get_all_schemas() if s.name.startswith(f"{NAMESPACE}::window_")]
    assert schemas and seen == {schema.name for schema in schemas if schema.arguments}


@native
def test_malformed_calls_of_the_operators_are_refused() -> None:
    """Whoever calls them by hand gets an error, not another tensor's memory."""
    ops = getattr(torch.ops, NAMESPACE)
    image, window = torch.rand(1, 2, 9, 9), [0.25, 0.5, 0.25]
    sums = torch.zeros(1, 3, 2, dtype=torch.float64)
    for given in (
        (image, image[..., 1:], None, window),
        (image, image, torch.rand(1, 1, 9, 9), window),
        (image, image, torch.rand(1, 3, 7, 7), window),
        (image, image, None, [0.01] * 65),
        (image, image, None, []),
        (image, image, None, [0.1] * 10),
        (image.long(), image, None, window),
    ):
        with pytest.raises(RuntimeError, match="lossfold"):
            ops.window_fold(*given, 1e-4, 9e-4)
    with pytest.raises(RuntimeError, match="lossfold"):
        ops.window_unfold(sums[:, :2], image, image, None, window, 1e-4, 9e-4)
    with pytest.raises(lf.LossError):
        lf.SSIMLoss(window_size=65)
