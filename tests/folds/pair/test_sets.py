"""Losses of a pair in sets: one pass for all that can share it, by name, nested, and folds that add up."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.folds.pair.cases import PairCase
from tests.folds.pair.oracles import DEFAULTS, TERMS
from tests.internals import Watch

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
CASE = PairCase("MattingLoss", {})


@native
def test_the_matting_criterion_is_one_pass() -> None:
    """Cross entropy and focal are of another fold: one more pass for both."""
    data = CASE.make((16, 12))
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
    data = CASE.make((16, 12))
    weight = 0.5 + torch.rand(data.pred.shape, dtype=torch.float64)
    outputs = {"pred": data.pred, "target": data.target, "region": data.weight, "weight": weight}
    criterion = lf.LossSet({name: (0.25 + i) * lf.LOSSES[name](engine=engine) for i, name in enumerate(names)})
    leaf = data.leaf()
    with Watch() as watch:
        out = criterion(outputs | {"pred": leaf.pred})
        (gradient,) = torch.autograd.grad(out.total, leaf.pred)
    assert watch.names == (["pair_fold", "pair_unfold"] if engine == "cpp" else [])
    slope = torch.zeros_like(gradient)
    for i, name in enumerate(names):
        where = weight if "weight" in PairCase(name, {}).arguments else data.weight
        raw, own = evaluate(lf.LOSSES[name](engine=engine), Data(data.pred, data.target, where))
        close(out.terms[name], raw)
        close(out.weighted[name].detach(), (0.25 + i) * raw)
        slope += (0.25 + i) * own
    close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_nested_criteria_share_the_pass_of_the_losses_beside_them(engine: str) -> None:
    data = CASE.make((16, 12))
    beside = lf.MSELoss(engine=engine, inputs={"pred": "pred", "target": "target"})
    criterion = lf.LossSet(matting=0.5 * lf.MattingLoss(engine=engine), square=2.0 * beside)
    outputs = {"pred": data.pred, "target": data.target, "region": data.weight}
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
    data = CASE.make((16, 12))
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
    assert len(watch.names) == 2
    close(out.terms["two"], lf.L1Loss()(data.pred + 0.1, data.target))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_regions_in_one_pass(engine: str) -> None:
    data, other = CASE.make((16, 12)), CASE.make((16, 12), way=("", "bool"), seed=7)
    criterion = lf.LossSet(
        first=lf.UnknownL1Loss(engine=engine, inputs={"region": "maps.0"}),
        second=lf.UnknownL1Loss(engine=engine, inputs={"region": "maps.1"}),
        known=lf.KnownL1Loss(engine=engine, inputs={"region": "maps.1"}),
        pyramid=lf.LaplacianPyramidLoss(engine=engine, inputs={"region": "maps.0"}),
        weighted=lf.MSELoss(engine=engine, inputs={"weight": "w"}),
    )
    weight = 3 * torch.rand(2, 16, 12, dtype=torch.float64)
    outputs = {"pred": data.leaf().pred, "target": data.target, "maps": [data.weight, other.weight], "w": weight}
    with Watch() as watch:
        out = criterion(outputs)
        out.total.backward()
    assert watch.names == (["pair_fold", "pair_unfold"] if engine == "cpp" else [])
    expected = {
        "first": lf.UnknownL1Loss()(data.pred, data.target, data.weight),
        "second": lf.UnknownL1Loss()(data.pred, data.target, other.weight),
        "known": lf.KnownL1Loss()(data.pred, data.target, other.weight),
        "pyramid": lf.LaplacianPyramidLoss()(data.pred, data.target, data.weight),
        "weighted": lf.MSELoss()(data.pred, data.target, weight),
    }
    for name, value in expected.items():
        close(out.terms[name], value)
