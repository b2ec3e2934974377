"""Losses of a pair in sets: one pass for all that can share it, by name, nested, and folds that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from lossfold.folds.fold import Fold
from tests import internals
from tests.cases import ENGINES, close, same_bits
from tests.operators import Watch
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, one_case_a_loss, pair_cases
from tests.pair.oracles import DEFAULTS, TERMS

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
CASE = PairCase("MattingLoss", {})
FOLDED = [case for case in pair_cases() if not case.is_set and not case.maps and case.adds_up]


@native
def test_the_matting_criterion_is_one_pass() -> None:
    """Cross entropy and focal are of another fold: one more pass for both."""
    data = make_pair(CASE, (16, 12))
    for criterion in (
        lf.MattingLoss(engine="cpp"),
        lf.MixedMattingLoss(engine="cpp"),
        lf.LossSet(matting=lf.MattingLoss(engine="cpp")),
    ):
        with Watch() as watch:
            evaluate(criterion, data)
        assert watch.names == ["pair_fold", "pair_unfold"]
    with Watch() as watch:
        evaluate(lf.MattingLoss(losses=list(TERMS), engine="cpp"), data)
    assert sorted(watch.names) == ["dense_fold", "dense_unfold", "pair_fold", "pair_unfold"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_set_is_the_sum_of_its_terms(engine: str) -> None:
    """Every loss of (pred, target, region or weight), weighted, in one set over one dict."""
    names = ["L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "CharbonnierLoss"]
    names += ["UnknownL1Loss", "KnownL1Loss", "KnownSmoothL1Loss", "MattingGradientLoss", "LaplacianPyramidLoss"]
    data = make_pair(CASE, (16, 12))
    weight = 0.5 + torch.rand(data.pred.shape, dtype=torch.float64)
    outputs = {"pred": data.pred, "target": data.target, "region": data.region, "weight": weight}
    criterion = lf.LossSet({name: (0.25 + i) * lf.LOSSES[name](engine=engine) for i, name in enumerate(names)})
    leaf = data.leaf()
    with Watch() as watch:
        out = criterion(outputs | {"pred": leaf.pred})
        (gradient,) = torch.autograd.grad(out.total, leaf.pred)
    assert watch.names == (["pair_fold", "pair_unfold"] if engine == "cpp" else [])
    slope = torch.zeros_like(gradient)
    for i, name in enumerate(names):
        where = weight if "weight" in PairCase(name, {}).arguments else data.region
        raw, own = evaluate(lf.LOSSES[name](engine=engine), PairData(data.pred, data.others, where))
        close(out.terms[name], raw)
        close(out.weighted[name].detach(), (0.25 + i) * raw)
        slope += (0.25 + i) * own
    close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_nested_criteria_share_the_pass_of_the_losses_beside_them(engine: str) -> None:
    data = make_pair(CASE, (16, 12))
    beside = lf.MSELoss(engine=engine, inputs={"pred": "pred", "target": "target"})
    criterion = lf.LossSet(matting=0.5 * lf.MattingLoss(engine=engine), square=2.0 * beside)
    outputs = {"pred": data.pred, "target": data.target, "region": data.region}
    out = criterion(outputs)
    assert list(out.terms) == [*(f"matting.{name}" for name in DEFAULTS), "square"]
    alone = lf.MattingLoss(engine=engine)(*data.call)
    for name, value in alone.terms.items():
        close(out.terms[f"matting.{name}"], value)
        close(out.weighted[f"matting.{name}"], 0.5 * value)
    close(out.total, 0.5 * alone.total + 2 * lf.MSELoss(engine=engine)(data.pred, data.target))
    flat = lf.LossSet(matting=lf.MattingLoss(engine=engine), mixed=lf.MixedMattingLoss(engine=engine))(*data.call)
    close(flat.total, alone.total + lf.MixedMattingLoss(engine=engine)(*data.call).total)


@native
def test_what_shares_a_pass() -> None:
    """Losses without a region and with one; not another prediction, link or engine."""
    data = make_pair(CASE, (16, 12))
    sharing = lf.LossSet(a=lf.L1Loss(engine="cpp"), b=lf.MSELoss(engine="cpp"), c=lf.CharbonnierLoss(engine="cpp", reduction="sum"))
    with Watch() as watch:
        sharing(*data.call)
    assert watch.names == ["pair_fold"]
    assert str(sharing.plan()).count("pair fold") == 1
    for apart in (lf.MSELoss(engine="cpp", link="sigmoid"), lf.MSELoss(engine="eager")):
        assert str(lf.LossSet(a=lf.L1Loss(engine="cpp"), b=apart).plan()).count("pair fold") == 2
    outputs = {"one": data.pred, "two": data.pred + 0.1, "target": data.target}
    heads = lf.LossSet(one=lf.L1Loss(inputs={"pred": "one"}, engine="cpp"), two=lf.L1Loss(inputs={"pred": "two"}, engine="cpp"))
    with Watch() as watch:
        out = heads(outputs)
    assert watch.count("pair_fold") == 2
    close(out.terms["two"], lf.L1Loss()(data.pred + 0.1, data.target))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_regions_in_one_pass(engine: str) -> None:
    data, other = make_pair(CASE, (16, 12)), make_pair(CASE, (16, 12), region="bool", seed=7)
    criterion = lf.LossSet(
        first=lf.UnknownL1Loss(engine=engine, inputs={"region": "maps.0"}),
        second=lf.UnknownL1Loss(engine=engine, inputs={"region": "maps.1"}),
        known=lf.KnownL1Loss(engine=engine, inputs={"region": "maps.1"}),
        pyramid=lf.LaplacianPyramidLoss(engine=engine, inputs={"region": "maps.0"}),
        weighted=lf.MSELoss(engine=engine, inputs={"weight": "w"}),
    )
    weight = 3 * torch.rand(2, 16, 12, dtype=torch.float64)
    outputs = {"pred": data.leaf().pred, "target": data.target, "maps": [data.region, other.region], "w": weight}
    with Watch() as watch:
        out = criterion(outputs)
        out.total.backward()
    assert watch.names == (["pair_fold", "pair_unfold"] if engine == "cpp" else [])
    expected = {
        "first": lf.UnknownL1Loss()(data.pred, data.target, data.region),
        "second": lf.UnknownL1Loss()(data.pred, data.target, other.region),
        "known": lf.KnownL1Loss()(data.pred, data.target, other.region),
        "pyramid": lf.LaplacianPyramidLoss()(data.pred, data.target, data.region),
        "weighted": lf.MSELoss()(data.pred, data.target, weight),
    }
    for name, value in expected.items():
        close(out.terms[name], value)


@every_pair_case(among=[case for case in pair_cases() if "reduction" not in case.options])
def test_inputs_by_name(case: PairCase) -> None:
    """Out of one dict, positionally or as `outputs_dict`; renamed or under their own names."""
    data = make_pair(case, (16, 12))
    truth, slope = evaluate(case.build(), data)
    names = list(case.arguments)[: len(data.call)]
    own = dict(zip(names, data.call, strict=True))
    deep = {"net": {"outputs": [data.pred]}, **{name: own[name] for name in names[1:]}}
    for loss, outputs in ((case.build(), own), (case.build(inputs={names[0]: "net.outputs.0"}), deep)):
        for result in (loss(outputs), loss(outputs_dict=outputs), loss(**own) if outputs is own else loss(outputs)):
            same_bits(result.total if case.is_set else result, truth)
    missing = names[1 if case.has_target else 0]
    with pytest.raises(lf.LossError, match=missing):
        case.build()({name: own[name] for name in names if name != missing})
    assert slope.abs().max() > 0


@every_pair_case(among=one_case_a_loss())
def test_loss_weight(case: PairCase) -> None:
    data = make_pair(case)
    truth, slope = evaluate(case.build(), data)
    for loss in (case.build(loss_weight=0.25), 0.25 * case.build(), 0.5 * case.build(loss_weight=0.5)):
        result, gradient = evaluate(loss, data)
        close(result, 0.25 * truth)
        close(gradient, 0.25 * slope)


@every_pair_case(among=FOLDED)
def test_folds_add_up(case: PairCase) -> None:
    """Of two batches and of their sum: a loss of the sum is that of one batch of both."""
    loss: Any = case.build()
    whole = make_pair(case, (12, 9), batch=4)
    parts = [whole.each(lambda one, part=part: one[2 * part : 2 * part + 2]) for part in range(2)]
    folds, given = zip(*(internals.collected(loss, *part.call) for part in (whole, *parts)), strict=True)
    both = folds[1] + folds[2]
    assert isinstance(both, Fold) and both.wanted == folds[0].wanted
    close(both.sums.sum(0), folds[0].sums.sum(0))
    if case.options.get("reduction") != "none":
        close(internals.settled(loss, both, given[1]), internals.settled(loss, folds[0], given[0]))
    with pytest.raises(lf.LossError, match="fold"):
        both + folds[0]  # of another batch size
    other: Any = lf.MSELoss(link="sigmoid") if case.name != "MSELoss" else lf.L1Loss()
    with pytest.raises(lf.LossError, match="fold"):
        both + internals.collected(other, parts[0].target, parts[0].target)[0]
