"""A loss of a pair as an object, as a function, as a configuration, and under autocast."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.functional import snake_case
from tests.cases import ENGINES, PAIR_LOSSES, close, same_bits
from tests.pair.cases import PairCase, evaluate, every_pair_case, make_pair, one_case_a_loss, pair_cases, run
from tests.pair.oracles import DEFAULTS

NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")} | {"inf": math.inf}
SAMPLES = [case for case in pair_cases() if "reduction" not in case.options]


def assert_same_loss(one: nn.Module, other: nn.Module, case: PairCase) -> None:
    assert type(one) is type(other) and repr(one) == repr(other)
    data = make_pair(case)
    for actual, expected in zip(evaluate(one, data), evaluate(other, data), strict=True):
        same_bits(actual, expected)


@every_pair_case(engines=["eager"], among=SAMPLES)
def test_a_loss_survives_pickle_deepcopy_repr_and_state_dict(case: PairCase) -> None:
    loss = case.build(loss_weight=0.25)
    twin = case.build(loss_weight=0.25)
    twin.load_state_dict(loss.state_dict(), strict=True)
    assert "loss_weight=0.25" in repr(loss)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), eval(repr(loss), NAMES), twin):
        assert other is not loss
        assert_same_loss(other, loss, case)
    assert not list(loss.parameters())
    assert not [name for name, v in vars(loss).items() if isinstance(v, Tensor)]


@every_pair_case(engines=["eager"], among=SAMPLES)
def test_build_gives_the_loss(case: PairCase) -> None:
    """From a dict that went through JSON, as it does through YAML."""
    loss = lf.build(json.loads(json.dumps({"type": case.name, **case.options})))
    assert repr(loss) == repr(case.build())
    assert_same_loss(loss, case.build(), case)
    with pytest.raises(lf.LossError, match="lossweight"):
        lf.build({"type": case.name, "lossweight": 2})


@every_pair_case(engines=["eager"], among=SAMPLES)
def test_the_function_is_the_module(case: PairCase) -> None:
    function = getattr(lf.functional, snake_case(case.name))
    data = make_pair(case)
    truth, slope = evaluate(case.build(), data)
    leaf = data.leaf()
    result = function(*leaf.call, **case.options)
    (gradient,) = torch.autograd.grad(result, leaf.pred)
    same_bits(result.detach(), truth)
    same_bits(gradient, slope)
    names = list(case.arguments)
    assert names[-1 if names[-1] != "is_binary" else -2] == case.region_argument
    same_bits(function(**dict(zip(names, data.call, strict=False)), **case.options), truth)


@every_pair_case(among=one_case_a_loss())
def test_moving_the_module_keeps_its_values(case: PairCase) -> None:
    data = make_pair(case)
    truth, slope = evaluate(case.build(), data)
    for change in (lambda m: m.half().double(), lambda m: m.eval(), lambda m: m.to("cpu")):
        result, gradient = evaluate(change(case.build()), data)
        close(result, truth)
        close(gradient, slope)


@every_pair_case(among=one_case_a_loss())
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(case: PairCase, half: torch.dtype) -> None:
    """Filters are not done in halves: float32 results from half predictions, float32 from float32."""
    loss = case.build()
    for dtype in (half, torch.float32):
        data = make_pair(case, (9, 7), dtype=dtype)
        truth, slope = evaluate(loss, data)
        leaf = data.leaf()
        with torch.autocast("cpu", half):
            result = run(loss, leaf)
        (gradient,) = torch.autograd.grad(result, leaf.pred, torch.ones_like(result))
        assert result.dtype == torch.float32 and gradient.dtype == dtype
        same_bits(result.detach(), truth)
        same_bits(gradient, slope)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_constructor_takes_keywords_with_defaults(name: str) -> None:
    """Plain, typed, keyword-only options, the common ones with their documented defaults."""
    parameters = dict(inspect.signature(lf.LOSSES[name]).parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    expected: dict[str, object] = {"loss_weight": 1.0, "engine": None, "inputs": None}
    if issubclass(lf.LOSSES[name], lf.LossSet):
        expected |= {"alpha_link": "identity", "reference_area": None}
    else:
        expected |= {"link": "identity", "reduction": "mean", "sample_wise": False}
    assert {key: parameters[key].default for key in expected} == expected
    assert getattr(lf, name) is lf.LOSSES[name]
    assert (lf.LOSSES[name].__doc__ or "").strip()


DEFAULT_OPTIONS = {
    "SmoothL1Loss": {"beta": 1.0},
    "HuberLoss": {"delta": 1.0},
    "CharbonnierLoss": {"eps": 1e-12},
    "CharbonnierCompLoss": {"eps": 1e-12},
    "UnknownL1Loss": {"reference_area": None},
    "KnownL1Loss": {"reference_area": None},
    "KnownSmoothL1Loss": {"reference_area": None, "beta": 1.0},
    "MattingGradientLoss": {"smoothness": 0.01, "padding": "replicate", "reference_area": None},
    "LaplacianPyramidLoss": {"levels": 5, "residual": False},
    "GradientLoss": {"padding": "zeros"},
    "PSNRLoss": {"to_y": False},
    "TVLoss": {"order": "l1"},
    "MaskedTVLoss": {"order": "l1"},
    "MixedMattingLoss": {"segmentation": ("known_smooth_l1_loss",), "matting": tuple(DEFAULTS), "tolerance": 0.0},
}


@pytest.mark.parametrize("name", list(DEFAULT_OPTIONS))
def test_defaults(name: str) -> None:
    parameters = inspect.signature(lf.LOSSES[name]).parameters
    assert {key: parameters[key].default for key in DEFAULT_OPTIONS[name]} == DEFAULT_OPTIONS[name]


def test_the_default_terms_by_their_published_names() -> None:
    for criterion in (lf.MattingLoss(), lf.MattingLoss(losses=DEFAULTS)):
        assert set(criterion.names) == set(DEFAULTS)
    assert set(lf.MixedMattingLoss().names) == {*DEFAULTS, "known_smooth_l1_loss"}


@pytest.mark.parametrize("engine", ENGINES)
def test_options_can_be_changed(engine: str) -> None:
    """Of a set they reach its terms; a wrong one leaves it as it was."""
    data = make_pair(PairCase("MattingLoss", {}), (16, 12))
    criterion = lf.MattingLoss(engine=engine)
    criterion.losses = ["unknown_l1_loss"]
    criterion.reference_area = 1920
    close(criterion(*data.call).total, 10 * lf.UnknownL1Loss()(*data.call))
    with pytest.raises(lf.LossError, match="unknown_l1_loss"):
        criterion.losses = ["unknown_l2_loss"]
    close(criterion(*data.call).total, 10 * lf.UnknownL1Loss()(*data.call))
    loss = lf.HuberLoss(engine=engine)
    loss.delta = 0.1
    close(loss(data.pred, data.target), lf.HuberLoss(delta=0.1)(data.pred, data.target))
    with pytest.raises(lf.LossError, match="delta"):
        loss.delta = 0
    assert loss.delta == 0.1
