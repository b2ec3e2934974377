"""A loss as an object: pickles, copies, prints, saves, is scaled, and is a function and a configuration too."""

from __future__ import annotations

import copy
import inspect
import io
import json
import math
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.contract.case import Case, both_close, both_same, evaluate, run, same_bits, slope_of, value
from tests.contract.cases import each, every, first_of

NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")} | {"inf": math.inf}
LOSSES = first_of(lambda case: case.name)


def saved(loss: nn.Module) -> Any:
    """What torch.save keeps."""
    buffer = io.BytesIO()
    torch.save(loss, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@each()
def test_copies_are_the_same_loss(case: Case) -> None:
    """Pickled, saved, deeply copied, written and read, and with the state of another."""
    loss, twin = case.build(loss_weight=0.25), case.build(loss_weight=0.25)
    assert "loss_weight=0.25" in repr(loss)
    state = loss.state_dict()
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    twin.load_state_dict(state, strict=True)
    data = case.make(way=case.rich)
    truth = evaluate(loss, data)
    copied = copy.deepcopy(loss)
    for other in (pickle.loads(pickle.dumps(loss)), saved(loss), copied, eval(repr(loss), NAMES), twin):
        assert other is not loss and type(other) is type(loss) and repr(other) == repr(loss)
        both_same(evaluate(other, data), truth)
    ours, theirs = dict(loss.named_buffers()), dict(copied.named_buffers())
    assert all(ours[name].data_ptr() != theirs[name].data_ptr() for name in ours if ours[name].numel())
    assert not list(loss.parameters())
    tensors = [name for name, held in vars(loss).items() if isinstance(held, Tensor)]
    assert not tensors, f"{tensors} would not move with the module"


@each()
def test_a_configuration_is_the_loss(case: Case) -> None:
    """From a dict that went through JSON, as it does through YAML."""
    config = {"type": case.name, **case.options}
    before = copy.deepcopy(config)
    loss = lf.build(json.loads(json.dumps(config)))
    assert lf.build(config) is not lf.build(config) and config == before, "the caller's dict was changed"
    assert type(loss) is lf.LOSSES[case.name]
    assert isinstance(loss, nn.Module) and repr(loss) == repr(case.build())
    data = case.make()
    both_same(evaluate(loss, data), evaluate(case.build(), data))
    with pytest.raises(lf.LossError, match=r"loss_wieght.*did you mean 'loss_weight'"):
        lf.build({"type": case.name, "loss_wieght": 2})


@each()
def test_the_function_is_the_module(case: Case) -> None:
    """By position and by name; what follows scores and labels by name alone."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", case.name).lower()
    function = getattr(lf.functional, snake)
    data = case.make(way=case.rich)
    truth = evaluate(case.build(), data)
    leaf = data.leaf()
    of_scores = case.fold in ("label", "dense", "shape")
    rest = {"weight": leaf.call[2]} if of_scores and len(leaf.call) > 2 else {}
    result = value(function(*leaf.call[: len(leaf.call) - len(rest)], **rest, **case.options))
    both_same((result.detach(), slope_of(result, leaf.pred)), truth)
    arguments = list(inspect.signature(lf.LOSSES[case.name].forward).parameters)[1:]
    arguments = ["logits", "labels", "weight"] if of_scores else arguments
    named = dict(zip(arguments, leaf.call, strict=False))
    assert list(named)[-1] in ("weight", "region", "mask")
    same_bits(value(function(**named, **case.options)).detach(), truth[0])


@every()
def test_weights_of_a_loss(case: Case) -> None:
    """`loss_weight` scales value and gradient, and a number times a loss is a heavier copy."""
    data = case.make()
    truth, slope = evaluate(case.build(), data)
    quarter = 0.25 * truth, 0.25 * slope
    loss = case.build(loss_weight=0.5)
    before = repr(loss)
    for lighter in (case.build(loss_weight=0.25), 0.25 * case.build(), 0.5 * loss, loss * 0.5, 2 * (0.25 * loss)):
        assert lighter is not loss and type(lighter) is type(loss)
        assert repr(lighter) == repr(case.build(loss_weight=0.25))
        both_close(evaluate(lighter, data), quarter)
    assert repr(loss) == before and slope.abs().max() > 0


@every(among=lambda case: "reduction" not in case.options)
def test_inputs_by_name(case: Case) -> None:
    """Out of one dict, positionally or as `outputs_dict`; renamed or under their own names."""
    data = case.make(way=case.rich).leaf()
    truth = run(case.build(), data)
    scores = case.fold in ("label", "dense")
    arguments = ["logits", "labels", "weight"] if scores else list(inspect.signature(case.build().forward).parameters)
    own = dict(zip(arguments, data.call, strict=False))
    first, *rest = own
    deep = {"net": {"outputs": [data.pred]}, **{name: own[name] for name in rest}}
    moved = case.build(inputs={first: "net.outputs.0"})
    for result in (
        case.build()(own), case.build()(outputs_dict=own), case.build()(**own), moved(deep), moved(outputs_dict=deep)
    ):  # fmt: skip
        same_bits(value(result), truth)
    missing = next(name for name in own if own[name] is (data.target if data.target is not None else data.pred))
    with pytest.raises(lf.LossError, match=missing):
        case.build()({name: tensor for name, tensor in own.items() if name != missing})


@pytest.mark.skipif("cpp" in lf.engines.available(), reason="the compiled engine is here")
@each(LOSSES)
def test_an_engine_that_is_not_in_this_installation(case: Case) -> None:
    with pytest.raises(lf.LossError, match=rf"(?s){case.name}.*engine.*not in this installation"):
        run(case.build(engine="cpp"), case.make())
