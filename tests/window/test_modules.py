"""A window loss as an object, as a function, as a configuration, and under autocast."""

from __future__ import annotations

import copy
import inspect
import json
import pickle

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.functional import snake_case
from tests.cases import ENGINES, WINDOW_LOSSES, close, same_bits
from tests.window.cases import WindowCase, evaluate, every_window_case, make_images, run, samples

NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")}


def assert_same_loss(one: nn.Module, other: nn.Module, case: WindowCase) -> None:
    assert type(one) is type(other) and repr(one) == repr(other)
    data = make_images(case)
    for actual, expected in zip(evaluate(one, data), evaluate(other, data), strict=True):
        same_bits(actual, expected)


@every_window_case(engines=["eager"], among=samples())
def test_a_loss_survives_pickle_deepcopy_repr_and_state_dict(case: WindowCase) -> None:
    loss = case.build(loss_weight=0.25)
    twin = case.build(loss_weight=0.25)
    twin.load_state_dict(loss.state_dict(), strict=True)
    assert "loss_weight=0.25" in repr(loss)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), eval(repr(loss), NAMES), twin):
        assert other is not loss
        assert_same_loss(other, loss, case)
    assert not list(loss.parameters())
    assert not [name for name, v in vars(loss).items() if isinstance(v, Tensor)]


@every_window_case(engines=["eager"], among=samples())
def test_build_gives_the_loss(case: WindowCase) -> None:
    """From a dict that went through JSON, as it does through YAML."""
    loss = lf.build(json.loads(json.dumps({"type": case.name, **case.options})))
    assert repr(loss) == repr(case.build())
    assert_same_loss(loss, case.build(), case)
    with pytest.raises(lf.LossError, match="did you mean 'window_size'"):
        lf.build({"type": case.name, "windowsize": 7})


@every_window_case(engines=["eager"], among=samples())
def test_the_function_is_the_module(case: WindowCase) -> None:
    function = getattr(lf.functional, snake_case(case.name))
    data = make_images(case, weight="soft")
    truth, slope = evaluate(case.build(), data)
    leaf = data.leaf()
    result = function(*leaf.call, **case.options)
    (gradient,) = torch.autograd.grad(result, leaf.pred, torch.ones_like(result))
    same_bits(result.detach(), truth)
    same_bits(gradient, slope)
    same_bits(function(pred=data.pred, target=data.target, weight=data.weight, **case.options), truth)


@every_window_case(among=samples())
def test_moving_the_module_keeps_its_values(case: WindowCase) -> None:
    data = make_images(case)
    truth, slope = evaluate(case.build(), data)
    for change in (lambda m: m.half().double(), lambda m: m.eval(), lambda m: m.to("cpu")):
        result, gradient = evaluate(change(case.build()), data)
        close(result, truth)
        close(gradient, slope)


@every_window_case(among=samples())
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(case: WindowCase, half: torch.dtype) -> None:
    """Windows are not filtered in halves: float32 results from half predictions, float32 from float32."""
    loss = case.build()
    for dtype in (half, torch.float32):
        data = make_images(case, dtype=dtype)
        truth, slope = evaluate(loss, data)
        leaf = data.leaf()
        with torch.autocast("cpu", half):
            result = run(loss, leaf)
        (gradient,) = torch.autograd.grad(result, leaf.pred, torch.ones_like(result))
        assert result.dtype == torch.float32 and gradient.dtype == dtype
        same_bits(result.detach(), truth)
        same_bits(gradient, slope)


DEFAULTS: dict[str, object] = {
    "loss_weight": 1.0,
    "engine": None,
    "inputs": None,
    "window_size": 11,
    "sigma": 1.5,
    "k1": 0.01,
    "k2": 0.03,
    "data_range": 1.0,
    "padding": "valid",
    "reduction": "mean",
    "sample_wise": False,
}


@pytest.mark.parametrize("name", WINDOW_LOSSES)
def test_constructor_takes_keywords_with_defaults(name: str) -> None:
    """Plain, typed, keyword-only options with their documented defaults, which are those of Wang et al."""
    parameters = dict(inspect.signature(lf.LOSSES[name]).parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    expected = DEFAULTS | ({"betas": (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)} if name == "MSSSIMLoss" else {})
    assert {key: parameters[key].default for key in expected} == expected
    assert getattr(lf, name) is lf.LOSSES[name]


@pytest.mark.parametrize("engine", ENGINES)
def test_options_can_be_changed(engine: str) -> None:
    data = make_images(WindowCase("MSSSIMLoss", {"betas": (1, 1, 1)}))
    loss, scales = lf.SSIMLoss(engine=engine), lf.MSSSIMLoss(engine=engine)
    loss.padding, loss.window_size, scales.betas = "zeros", 7, [1, 2]
    close(loss(*data.call), lf.SSIMLoss(padding="zeros", window_size=7)(*data.call))
    close(scales(*data.call), lf.MSSSIMLoss(betas=(1.0, 2.0))(*data.call))
    for wrong in (8, "7"):
        with pytest.raises(lf.LossError, match="window_size"):
            loss.window_size = wrong  # type: ignore[assignment]
    with pytest.raises(lf.LossError, match="betas"):
        scales.betas = []
    assert loss.window_size == 7 and scales.betas == (1.0, 2.0)
