"""A loss as an object: pickles, copies, prints, saves, and is scaled."""

from __future__ import annotations

import copy
import inspect
import io
import math
import pickle
import re

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.cases import (
    ADVERSARIAL_LOSSES,
    CONTAINERS,
    FEATURE_LOSSES,
    PAIR_LOSSES,
    SCORE_LOSSES,
    WINDOW_LOSSES,
    Case,
    cases,
    close,
    evaluate,
    every_case,
    make,
    same_bits,
    value,
)
from tests.dense.cases import dense_cases
from tests.pair.cases import pair_cases
from tests.window.cases import window_cases

NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")} | {"inf": math.inf}


def assert_same_loss(one: nn.Module, other: nn.Module, case: Case) -> None:
    assert type(one) is type(other)
    assert repr(one) == repr(other)
    data = make(case, weight="float")
    for actual, expected in zip(evaluate(one, data), evaluate(other, data), strict=True):
        same_bits(actual, expected)


@every_case()
def test_pickle(case: Case) -> None:
    loss = case.build()
    assert_same_loss(pickle.loads(pickle.dumps(loss)), loss, case)


@every_case()
def test_torch_save(case: Case) -> None:
    loss = case.build()
    buffer = io.BytesIO()
    torch.save(loss, buffer)
    buffer.seek(0)
    assert_same_loss(torch.load(buffer, weights_only=False), loss, case)


@every_case()
def test_deepcopy(case: Case) -> None:
    loss = case.build()
    twin = copy.deepcopy(loss)
    assert twin is not loss
    assert_same_loss(twin, loss, case)
    ours, theirs = dict(loss.named_buffers()), dict(twin.named_buffers())
    assert all(ours[name].data_ptr() != theirs[name].data_ptr() for name in ours if ours[name].numel())


@every_case()
def test_repr_evaluates_to_the_loss(case: Case) -> None:
    loss = case.build(loss_weight=0.25)
    assert_same_loss(eval(repr(loss), NAMES), loss, case)
    assert "loss_weight=0.25" in repr(loss)


@every_case()
def test_state_dict(case: Case) -> None:
    loss, twin = case.build(), case.build()
    state = loss.state_dict()
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    twin.load_state_dict(state, strict=True)
    assert_same_loss(twin, loss, case)


@every_case()
def test_has_buffers_and_no_parameters(case: Case) -> None:
    loss = case.build()
    assert not list(loss.parameters())
    tensors = [name for name, v in vars(loss).items() if isinstance(v, Tensor)]
    assert not tensors, f"{tensors} would not move with the module"


@every_case()
def test_moving_the_module_keeps_its_values(case: Case) -> None:
    """`.half()` on a model that holds the loss must not round class weights; the mode is of no account."""
    data = make(case, dtype=torch.float64)
    truth, slope = evaluate(case.build(), data)
    for change in (lambda m: m.double(), lambda m: m.half().double(), lambda m: m.eval(), lambda m: m.to("cpu")):
        result, gradient = evaluate(change(case.build()), data)
        close(result, truth)
        close(gradient, slope)


@every_case()
def test_loss_weight_scales_value_and_gradient(case: Case) -> None:
    data = make(case)
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(loss_weight=0.25), data)
    close(result, 0.25 * truth)
    close(gradient, 0.25 * slope)


@every_case()
def test_a_number_times_a_loss_is_a_heavier_copy(case: Case) -> None:
    loss = case.build(loss_weight=0.5)
    before = repr(loss)
    for heavier in (2 * loss, 2.0 * loss, loss * 2):
        assert heavier is not loss
        assert_same_loss(heavier, case.build(loss_weight=1.0), case)
    assert repr(loss) == before
    assert_same_loss(3 * (2 * loss), case.build(loss_weight=3.0), case)


@every_case()
def test_the_function_is_the_module(case: Case) -> None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", case.name).lower()
    function = getattr(lf.functional, name)
    data = make(case, weight="float")
    truth, slope = evaluate(case.build(), data)
    leaf = data.leaf()
    result = function(*leaf.call, **case.options)
    assert isinstance(result, Tensor)
    (gradient,) = torch.autograd.grad(result, leaf.scores, torch.ones_like(result))
    same_bits(result.detach(), truth)
    same_bits(gradient, slope)
    by_name = function(data.scores, data.labels, weight=data.weight, **case.options)
    same_bits(by_name, truth)


@pytest.mark.parametrize("name", SCORE_LOSSES)
def test_constructor_takes_keywords_with_defaults(name: str) -> None:
    """Plain, typed, keyword-only options, the common ones with their documented defaults."""
    parameters = dict(inspect.signature(lf.LOSSES[name]).parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    expected = {
        "link": "softmax",
        "ignore_index": -100,
        "class_weight": None,
        "reduction": "mean",
        "per_image": False,
        "loss_weight": 1.0,
        "align_corners": False,
        "engine": None,
    }
    expected |= {"BinaryCrossEntropyLoss": {"link": "sigmoid"}, "LovaszLoss": {"per_image": None}}.get(name, {})
    assert {key: parameters[key].default for key in expected} == expected
    assert getattr(lf, name) is lf.LOSSES[name]
    assert (lf.LOSSES[name].__doc__ or "").strip()


DEFAULTS = {
    "CrossEntropyLoss": {"label_smoothing": 0.0},
    "FocalLoss": {"gamma": 2.0, "alpha": None, "normalize": "pixels"},
    "DiceLoss": {"average": "macro", "smooth": 1.0, "squared": False, "log": False, "absent": "skip"},
    "JaccardLoss": {"average": "macro", "smooth": 1.0, "squared": False, "log": False, "absent": "skip"},
    "TverskyLoss": {"alpha": 0.5, "beta": 0.5, "exponent": 1.0, "smooth": 1.0, "absent": "skip"},
    "GeneralizedDiceLoss": {"weighting": "square", "smooth": 0.0, "absent": "skip", "include_background": True},
    "CEDiceLoss": {"ce_weight": 1.0, "dice_weight": 1.0},
    "LovaszLoss": {"classes": "present", "bins": 4096, "exact": False},
    "OhemCrossEntropyLoss": {"thresh": 0.7, "min_kept": 100_000, "top_k_ratio": None},
}


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_defaults(name: str) -> None:
    parameters = inspect.signature(lf.LOSSES[name]).parameters
    assert {key: parameters[key].default for key in DEFAULTS[name]} == DEFAULTS[name]


@every_case()
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(case: Case, half: torch.dtype) -> None:
    """The loss computes as it does outside: float32 results from half logits, float32 from float32 logits."""
    loss = case.build()
    for dtype in (half, torch.float32):
        data = make(case, (9, 7), dtype=dtype, weight="float")
        truth, slope = evaluate(loss, data)
        leaf = data.leaf()
        with torch.autocast("cpu", half):
            result = value(loss(*leaf.call))
        (gradient,) = torch.autograd.grad(result, leaf.scores, torch.ones_like(result))
        assert result.dtype == torch.float32 and gradient.dtype == dtype
        same_bits(result.detach(), truth)
        same_bits(gradient, slope)


def test_every_loss_is_in_the_functional_module_and_the_registry() -> None:
    """The samples of every registered loss are run, and by one kind of suite: of scores, or of pairs."""
    assert {case.name for case in [*cases(), *dense_cases()]} == set(SCORE_LOSSES)
    assert {case.name for case in pair_cases()} == set(PAIR_LOSSES)
    assert {case.name for case in window_cases()} == set(WINDOW_LOSSES)
    assert CONTAINERS | {*SCORE_LOSSES, *PAIR_LOSSES, *FEATURE_LOSSES, *ADVERSARIAL_LOSSES, *WINDOW_LOSSES} == set(lf.LOSSES)
    assert all(getattr(lf, name) is cls for name, cls in lf.LOSSES.items())
    assert {name for name in dir(lf) if name.endswith("Loss")} <= set(lf.LOSSES)
