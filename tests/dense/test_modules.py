"""A loss of dense targets as an object, as a function, and under autocast."""

from __future__ import annotations

import copy
import math
import pickle
import re

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate, same_bits
from tests.dense.cases import DenseCase, call, every_dense_case, make_dense, one_case_a_link, samples

NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")} | {"inf": math.inf}


def assert_same_loss(one: nn.Module, other: nn.Module, case: DenseCase) -> None:
    assert type(one) is type(other) and repr(one) == repr(other)
    data = make_dense(case, weight="element")
    for actual, expected in zip(evaluate(one, data), evaluate(other, data), strict=True):
        same_bits(actual, expected)


@every_dense_case(engines=["eager"], among=samples())
def test_a_loss_survives_pickle_deepcopy_repr_and_state_dict(case: DenseCase) -> None:
    loss = case.build(loss_weight=0.25)
    twin = case.build(loss_weight=0.25)
    twin.load_state_dict(loss.state_dict(), strict=True)
    assert "loss_weight=0.25" in repr(loss)
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), eval(repr(loss), NAMES), twin):
        assert other is not loss
        assert_same_loss(other, loss, case)
    assert not list(loss.parameters())
    assert not [name for name, v in vars(loss).items() if isinstance(v, Tensor)]


@every_dense_case(among=one_case_a_link())
def test_moving_the_module_keeps_its_values(case: DenseCase) -> None:
    data = make_dense(case)
    truth, slope = evaluate(case.build(), data)
    for change in (lambda m: m.half().double(), lambda m: m.eval(), lambda m: m.to("cpu")):
        result, gradient = evaluate(change(case.build()), data)
        close(result, truth)
        close(gradient, slope)
    result, gradient = evaluate(0.5 * case.build(loss_weight=0.5), data)
    close(result, 0.25 * truth)
    close(gradient, 0.25 * slope)


@every_dense_case(engines=["eager"], among=samples())
def test_the_function_is_the_module(case: DenseCase) -> None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", case.name).lower()
    data = make_dense(case, weight="element")
    truth, slope = evaluate(case.build(), data)
    leaf = data.leaf()
    result = getattr(lf.functional, name)(leaf.scores, leaf.labels, weight=leaf.weight, **case.options)
    (gradient,) = torch.autograd.grad(result, leaf.scores, torch.ones_like(result))
    same_bits(result.detach(), truth)
    same_bits(gradient, slope)


@every_dense_case(among=one_case_a_link())
def test_autocast_changes_nothing(case: DenseCase) -> None:
    """float32 results from half logits, float32 from float32 logits."""
    for dtype in (torch.bfloat16, torch.float32):
        data = make_dense(case, (9, 7), dtype=dtype, weight="element")
        truth, slope = evaluate(case.build(), data)
        leaf = data.leaf()
        with torch.autocast("cpu", torch.bfloat16):
            result = call(case.build(), leaf)
        (gradient,) = torch.autograd.grad(result, leaf.scores, torch.ones_like(result))
        assert result.dtype == torch.float32 and gradient.dtype == dtype
        same_bits(result.detach(), truth)
        same_bits(gradient, slope)


@every_dense_case(among=one_case_a_link())
def test_meta_tensors_give_the_shape(case: DenseCase) -> None:
    """Value and gradient, without any numbers."""
    data = make_dense(case, weight="element", dtype=torch.float32)
    truth, slope = evaluate(case.build(), data)
    loss = case.build().to("meta")
    leaf = data.scores.to("meta").requires_grad_()
    assert data.weight is not None
    result = loss(leaf, data.labels.to("meta"), data.weight.to("meta"))
    assert isinstance(result, Tensor) and result.is_meta
    assert (result.shape, result.dtype) == (truth.shape, truth.dtype)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    assert gradient.shape == slope.shape and gradient.dtype == slope.dtype


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("BinaryCrossEntropyLoss", "pos_weight"),
        ("BinaryCrossEntropyLoss", "class_weight"),
        ("FocalLoss", "alpha"),
        ("DiceLoss", "class_weight"),
        ("LovaszLoss", "class_weight"),
    ],
)
def test_a_number_for_each_channel(name: str, option: str, engine: str) -> None:
    """As lists, tuples and tensors; another number of channels is refused by name."""
    options = {"link": "sigmoid", "engine": engine}
    data = make_dense(DenseCase(name, options), classes=3)
    numbers = [0.25, 0.0, 1.0]
    truth, slope = evaluate(lf.LOSSES[name](**options, **{option: numbers}), data)
    for way in (tuple(numbers), torch.tensor(numbers)):
        result, gradient = evaluate(lf.LOSSES[name](**options, **{option: way}), data)
        same_bits(result, truth)
        same_bits(gradient, slope)
    with pytest.raises(lf.LossError, match=rf"{name}.*{option}.*3"):
        lf.LOSSES[name](**options, **{option: numbers[:2]})(*data.call)


def test_one_loss_reads_labels_and_dense_targets() -> None:
    """One module for both; with link="identity" a one-hot target is what its labels are (to the form for soft targets)."""
    labels = torch.randint(0, 4, (2, 5, 6))
    hot = nn.functional.one_hot(labels, 4).movedim(-1, 1)
    scores = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for loss in (lf.CrossEntropyLoss(), lf.DiceLoss(), lf.JaccardLoss(squared=True, smooth=0.0), lf.GeneralizedDiceLoss()):
        truth, slope = evaluate(loss, Data(scores, labels))
        for targets in (hot, hot.bool(), hot.double(), hot.to(torch.uint8)):
            result, gradient = evaluate(loss, Data(scores, targets))
            close(result, truth)
            close(gradient, slope)
