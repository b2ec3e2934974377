"""Losses that fold nothing, and registered functions: a finite value, a gradient, a weight that scales both, and copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests import internals
from tests.contract.case import same_bits
from tests.losses.foldless import Foldless, foldless_cases, scalar
from tests.seeds import seed

CASES = foldless_cases()
NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")}
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def evaluate(case: Foldless, loss: Any) -> tuple[Tensor, Tensor]:
    """Value and gradient of a fresh copy, whatever it remembers, from one seed, whatever it draws."""
    leaf, call = case.call()
    seed()
    result = scalar(call(copy.deepcopy(loss)))
    return result.detach(), torch.autograd.grad(result, leaf)[0]


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Any, tuple[Tensor, Tensor]]]:
    """Each loss, its value and its gradient, made once: some take a second."""
    return {}


def known(case: Foldless, made: dict[str, tuple[Any, tuple[Tensor, Tensor]]]) -> tuple[Any, tuple[Tensor, Tensor]]:
    if case.id not in made:
        loss = case.build()
        made[case.id] = loss, evaluate(case, loss)
    return made[case.id]


def test_every_foldless_loss_is_here() -> None:
    assert {case.name for case in CASES} == set(internals.foldless()) and CASES
    assert set(internals.FEATURES) <= {case.name for case in CASES}


@every
def test_a_value_and_a_gradient(case: Foldless, made: dict[str, Any]) -> None:
    """Finite, a scalar in float32 or float64, the same again, and without a graph where none is asked for."""
    loss, (value, slope) = known(case, made)
    assert value.dim() == 0 and value.isfinite() and value.dtype in (torch.float32, torch.float64)
    assert slope.isfinite().all() and slope.abs().max() > 0
    again = evaluate(case, loss)
    same_bits(again[0], value)
    same_bits(again[1], slope)
    leaf, call = case.call()
    assert scalar(call(copy.deepcopy(loss))).requires_grad
    if leaf.is_leaf and case.base in ("GANLoss", "DiscShiftLoss", *internals.FEATURES):
        leaf.requires_grad_(False)
        assert not scalar(call(copy.deepcopy(loss))).requires_grad


@every
def test_the_weight_scales_value_and_gradient(case: Foldless, made: dict[str, Any]) -> None:
    if not case.weighs:
        with pytest.raises(lf.LossError, match="loss_weight"):
            case.build(loss_weight=0.25)
        return
    loss, (value, slope) = known(case, made)
    factor = 0.25 / loss.loss_weight
    for lighter in (case.build(loss_weight=0.25), factor * loss, loss * factor):
        assert lighter.loss_weight == 0.25 and lighter is not loss
        found = evaluate(case, lighter)
        torch.testing.assert_close(found[0], factor * value, rtol=1e-5, atol=0)
        torch.testing.assert_close(found[1], factor * slope, rtol=1e-4, atol=1e-6 * slope.abs().max().item())
    nothing = evaluate(case, 0.0 * loss)
    assert nothing[0] == 0 and nothing[1].abs().max() == 0


@every
def test_copies_are_the_same_loss(case: Foldless, made: dict[str, Any]) -> None:
    """Deeply copied and pickled; written and read, where its options are all of it."""
    loss, truth = known(case, made)
    copies = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]
    if case.written:
        seed()
        copies.append(eval(repr(loss), NAMES))
        seed()
        copies.append(lf.build(lf.to_config(loss)))
        seed()
        copies.append(lf.build({"type": case.name, **case.options}))
    for other in copies:
        assert other is not loss and type(other) is type(loss) and repr(other) == repr(loss)
        for actual, expected in zip(evaluate(case, other), truth, strict=True):
            same_bits(actual, expected)
    assert not list(loss.parameters()), "it would be trained with the network it judges"


@every
def test_a_term_of_a_set(case: Foldless, made: dict[str, Any]) -> None:
    """The raw value for the log, and the weighted one in the total."""
    loss, (value, slope) = known(case, made)
    leaf, call = case.call()
    seed()
    out = call(lf.LossSet(term=copy.deepcopy(loss)))
    torch.testing.assert_close(scalar(out).detach(), value)
    torch.testing.assert_close(sum(out.weighted.values()).detach(), value)
    torch.testing.assert_close(torch.autograd.grad(out.total, leaf)[0], slope)
    raw = sum(out.terms.values()) * loss.loss_weight
    torch.testing.assert_close(raw, value, rtol=1e-5, atol=1e-7)


@every
def test_nan_stays_visible(case: Foldless, made: dict[str, Any]) -> None:
    loss, _ = known(case, made)
    leaf, call = case.call()
    with torch.no_grad():
        leaf[tuple(side // 2 for side in leaf.shape)] = torch.nan
    seed()
    assert scalar(call(copy.deepcopy(loss))).isnan()


@pytest.fixture
def quartic() -> Iterator[type[Any]]:
    """A function of single elements, entered for the time of a test."""

    @lf.LOSSES.register_module()
    def quartic_loss_of_a_test(pred: Tensor, target: Tensor, factor: float = 1.0) -> Tensor:
        return factor * (pred - target) ** 4

    yield lf.LOSSES["quartic_loss_of_a_test"]
    del lf.LOSSES._classes["quartic_loss_of_a_test"]


def test_a_registered_function(quartic: type[Any]) -> None:
    """The mean of its values, weighted, scaled, copied, a term of a set, and NaN where it is NaN."""
    pred, target = pictures = [torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(i)).double() for i in range(2)]
    weight = torch.rand(2, 1, 4, 5).double().round()
    pred.requires_grad_()
    loss = lf.build({"type": "quartic_loss_of_a_test", "factor": 2.0})
    assert isinstance(loss, quartic)
    expected = 2 * (pred - target) ** 4
    value = loss(*pictures)
    torch.testing.assert_close(value, expected.mean())
    torch.testing.assert_close(loss(pred, target, weight), (expected * weight).sum() / (3 * weight.sum()))
    (slope,) = torch.autograd.grad(value, pred)
    for lighter in (lf.build({"type": "quartic_loss_of_a_test", "factor": 2.0, "loss_weight": 0.25}), 0.25 * loss):
        light = lighter(*pictures)
        torch.testing.assert_close(light, 0.25 * value)
        torch.testing.assert_close(torch.autograd.grad(light, pred)[0], 0.25 * slope)
    for other in (copy.deepcopy(loss), lf.build(lf.to_config(loss))):
        same_bits(other(*pictures).detach(), value.detach())
        assert repr(other) == repr(loss)
    out = lf.LossSet(mine=0.5 * loss, l1=lf.L1Loss())(*pictures)
    torch.testing.assert_close(out.terms["mine"], value.detach())
    torch.testing.assert_close(out.total, 0.5 * value + (pred - target).abs().mean())
    assert loss(torch.full_like(target, torch.nan), target).isnan()
    nothing = loss(pred, target, torch.zeros_like(weight))
    assert nothing == 0 and torch.autograd.grad(nothing, pred)[0].abs().max() == 0
