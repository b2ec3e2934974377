"""At each dtype an engine is no further from a float64 truth than plain PyTorch is at that dtype; and what else dtypes do."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.contract.case import Case, both_close, both_same, close, evaluate, run, value
from tests.contract.cases import A_LOSS, CASES, each, every
from tests.contract.truth import judge


def summed_images(case: Case) -> bool:
    """Sums over pixels of images are compared by their means: the rounding of a sum is that of its largest summand."""
    return case.fold in ("pair", "window") and case.reduction == "sum"


@each(among=lambda case: not summed_images(case))
def test_no_worse_than_plain_pytorch(case: Case, dtypes: list[torch.dtype], device: torch.device) -> None:
    """In another space, with other targets and weights, at each dtype."""
    turn = CASES.index(case)
    for i, dtype in enumerate(dtypes):
        space, way = case.wide_spaces[(turn + i) % len(case.wide_spaces)], case.ways[(turn + i) % len(case.ways)]
        judge(case, case.make(space, dtype=dtype, way=way, device=device))


@pytest.mark.slow
@each(among=lambda case: not summed_images(case))
def test_no_worse_in_every_space(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    turn = CASES.index(case)
    for i, space in enumerate(case.wide_spaces):
        judge(case, case.make(space, dtype=dtype, way=case.ways[(turn + i) % len(case.ways)], device=device))


@every(A_LOSS)
def test_weights_of_every_float_dtype(case: Case) -> None:
    """Targets too: those of `make` are the same numbers in all of them, or are compared with what they were rounded to."""
    data = case.make(way=case.rich)
    assert data.weight is not None
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = data.weight.to(dtype)
        assert not torch.equal(weight.double(), data.weight)
        narrow = data.with_weight(weight)
        if data.target is not None and data.target.is_floating_point():
            narrow = narrow.with_target(data.target.to(dtype))
        loss = case.build()
        found, truth = evaluate(loss, narrow), evaluate(loss, narrow.double().with_pred(data.pred))
        both_close(found, truth, grain=case.grain)


@every(A_LOSS, among=lambda case: case.fold in ("label", "dense"))
def test_integer_targets_of_every_dtype(case: Case) -> None:
    """With an ignored value that bytes hold; of dense targets, booleans as well."""
    changed = case.changed(ignore_index=255)
    data = changed.make(way=("int64" if case.fold == "label" else "int", case.rich[1]))
    assert data.truth.dtype == torch.int64 and (data.truth == 255).any()
    truth = evaluate(changed.build(), data)
    for dtype in (torch.int32, torch.uint8):
        both_same(evaluate(changed.build(), data.with_target(data.truth.to(dtype))), truth)
    if case.fold == "dense":
        hard = case.make(way=("bool", "pixel"))
        truth = evaluate(case.build(), hard)
        for one in (hard.truth.long(), hard.truth.to(torch.uint8), hard.truth.int()):
            both_same(evaluate(case.build(), hard.with_target(one)), truth)
        both_close(evaluate(case.build(), hard.with_target(hard.truth.double())), truth, grain=case.grain)


@every(A_LOSS, among=lambda case: case.fold in ("pair", "window") and case.make().target is not None)
def test_targets_and_weights_of_other_dtypes(case: Case) -> None:
    """Boolean targets are 0 and 1, and a weight's dtype is not the prediction's."""
    loss = case.build()
    data = case.make(dtype=torch.float32, way=("", "bool"))
    hard = data.with_target(data.truth > 0.5)
    assert data.weight is not None
    numbers = data.with_target(hard.truth.half()).with_weight(data.weight.bfloat16())
    if case.make().images:  # which a composition reads in one dtype
        hard, numbers = data.with_target(hard.truth.float()), numbers.with_target(hard.truth.float())
    both_same(evaluate(loss, hard), evaluate(loss, numbers))


@every(A_LOSS)
def test_nan_stays_visible(case: Case, dtypes: list[torch.dtype]) -> None:
    """Where it counts: in the value, in a map at its pixel alone, and in the gradient of scores and logits."""
    for dtype, way in itertools.product(dtypes, case.ways[:2]):
        data = case.make(dtype=dtype, way=(way[0], None), ignored=0.0)
        data = data if data.weight is None else case.full(data)
        place = (1, 0, *(side // 2 for side in data.pred.shape[2:]))
        pred = data.pred.clone()
        pred[place] = torch.nan
        if case.fold == "label":
            data.truth[place[:1] + place[2:]] = 0
        result, gradient = evaluate(case.build(), data.with_pred(pred))
        assert result.isnan().any(), (dtype, way)
        if case.fold in ("label", "dense") and case.link in ("softmax", "sigmoid"):
            assert gradient[place].isnan()
        if case.maps and case.pixelwise:
            where = result.isnan() if result.dim() == data.pred.dim() - 1 else result.isnan().any(1)
            assert where.nonzero().tolist() == [[1, *place[2:]]]


@every(A_LOSS, among=lambda case: (not case.weights_are_regions and not case.is_set) or case.fold == "label")
def test_nan_weights_stay_visible(case: Case) -> None:
    data = case.make(way=case.rich, ignored=0.0)
    assert data.weight is not None
    middle = tuple(side // 2 for side in data.pred.shape[2:])
    data.weight[(..., *middle)] = torch.nan
    if case.fold == "label":
        data.truth[(slice(None), *middle)] = data.pred[(slice(None), slice(None), *middle)].argmin(1)  # hard
    assert value(run(case.build(), data)).isnan().any()


@each(A_LOSS)
def test_meta_tensors_give_the_shape(case: Case) -> None:
    """Value and gradient, without any numbers: nothing is read back to the host, for there is nothing to read."""
    data = case.make(way=case.rich, dtype=torch.float32)
    for engine in case.engines:
        truth, slope = evaluate(case.build(engine=engine), data)
        loss = case.build(engine=engine).to("meta")
        result, gradient = evaluate(loss, data.each(lambda one: one.to("meta")))
        assert result.is_meta and (result.shape, result.dtype) == (truth.shape, truth.dtype)
        assert gradient.is_meta and (gradient.shape, gradient.dtype) == (slope.shape, slope.dtype)


@each(A_LOSS)
def test_moving_the_module_keeps_its_values(case: Case) -> None:
    """`.half()` on a model that holds the loss must not round class weights; the mode is of no account."""
    data = case.make()
    for engine in case.engines:
        truth = evaluate(case.build(engine=engine), data)
        for change in (lambda m: m.double(), lambda m: m.half().double(), lambda m: m.eval(), lambda m: m.to("cpu")):
            both_same(evaluate(change(case.build(engine=engine)), data), truth)


@each(A_LOSS)
def test_the_engines_agree(case: Case) -> None:
    """To rounding of float32, also where no truth is asked."""
    if len(case.engines) == 1:
        return
    data = case.settled(case.make(dtype=torch.float32, way=case.rich))
    found = [evaluate(case.build(engine=engine), data) for engine in case.engines]
    for result, gradient in found[1:]:
        close(result, found[0][0], 1e-5, 1e-6)
        close(gradient, found[0][1], 1e-4, 1e-6 * max(1.0, gradient.abs().max().item()))
