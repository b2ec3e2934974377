"""Window losses in sets: one pass for all that can share it, beside other losses, and tiles that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, close, evaluate
from tests.contract.cases import native
from tests.folds.window.cases import WindowCase
from tests.internals import Watch

CASE = WindowCase("MSSSIMLoss", {"betas": (0.2, 0.5, 0.3)})


@native
def test_ssim_and_ms_ssim_share_a_pass_at_each_scale() -> None:
    data = CASE.make(way=("", "soft"))
    criterion = lf.LossSet(a=lf.SSIMLoss(engine="cpp"), b=lf.MSSSIMLoss(betas=CASE.options["betas"], engine="cpp"))
    with Watch() as watch:
        evaluate(criterion, data)
    assert sorted(watch.names) == ["window_fold"] * 3 + ["window_unfold"] * 3
    with Watch() as watch:
        evaluate(lf.SSIMLoss(engine="eager"), data)
    assert not watch.names


@pytest.mark.parametrize("engine", ENGINES)
def test_a_set_is_the_sum_of_its_terms(engine: str) -> None:
    """Two passes in all beside a loss of pixels, whichever of the window losses comes first."""
    data = CASE.make(way=("", "soft"))
    members = {
        "ssim": lf.SSIMLoss(engine=engine, sample_wise=True),
        "ms": lf.MSSSIMLoss(betas=CASE.options["betas"], engine=engine),
        "summed": lf.SSIMLoss(engine=engine, reduction="sum"),
        "near": lf.CharbonnierLoss(engine=engine),
    }
    for names in (list(members), list(members)[::-1]):
        criterion = lf.LossSet({name: (0.25 + i) * members[name] for i, name in enumerate(names)})
        leaf = data.leaf()
        with Watch() as watch:
            out = criterion(*leaf.call)
            (gradient,) = torch.autograd.grad(out.total, leaf.pred)
        assert watch.count("window_fold") == watch.count("window_unfold") == (3 if engine == "cpp" else 0)
        assert watch.count("pair_fold") == (engine == "cpp")
        slope = torch.zeros_like(gradient)
        for i, name in enumerate(names):
            raw, own = evaluate(members[name], data)
            close(out.terms[name], raw)
            close(out.weighted[name].detach(), (0.25 + i) * raw)
            slope += (0.25 + i) * own
        close(gradient, slope)


@pytest.mark.parametrize(
    "other",
    [{"window_size": 9}, {"sigma": 1.4}, {"k1": 0.02}, {"k2": 0.02}, {"data_range": 2}, {"padding": "zeros"}, {"engine": "eager"}],
    ids=str,
)
def test_other_windows_make_a_pass_of_their_own(other: dict[str, Any]) -> None:
    data = CASE.make()
    options = {"engine": ENGINES[-1], **other}
    out = lf.LossSet(a=lf.SSIMLoss(engine=ENGINES[-1]), b=lf.SSIMLoss(**options))(*data.call)
    close(out.terms["a"], lf.SSIMLoss()(*data.call))
    close(out.terms["b"], lf.SSIMLoss(**options)(*data.call))
    assert other == {"engine": "eager"} or out.terms["a"] != out.terms["b"]


@native
def test_another_image_or_weight_makes_a_pass_of_its_own() -> None:
    data = CASE.make(way=("", "soft"))
    outputs = {"one": data.pred, "two": data.target.flip(-1), "target": data.target, "w": data.weight}
    criterion = lf.LossSet(
        one=lf.SSIMLoss(inputs={"pred": "one"}, engine="cpp"),
        two=lf.SSIMLoss(inputs={"pred": "two"}, engine="cpp"),
        weighted=lf.SSIMLoss(inputs={"pred": "one", "weight": "w"}, engine="cpp"),
    )
    with Watch() as watch:
        out = criterion(outputs)
    assert watch.count("window_fold") == 3
    close(out.terms["one"], lf.SSIMLoss()(data.pred, data.target))
    close(out.terms["two"], lf.SSIMLoss()(outputs["two"], data.target))
    close(out.terms["weighted"], lf.SSIMLoss()(*data.call))


def test_a_plan_tells_window_and_scales() -> None:
    terms: dict[str, Any] = {
        "a": lf.SSIMLoss(engine="eager"),
        "b": lf.MSSSIMLoss(engine="eager"),
        "c": lf.SSIMLoss(padding="zeros"),
    }
    told = lf.LossSet(terms | {"d": lf.L1Loss()}).plan().splitlines()
    assert len(told) == 3
    for line, words in zip(
        told,
        (["window fold", "11x11", "valid", "eager", "a, b", "5 scales"], ["zeros", ": c", "1 scale"], ["pair fold"]),
        strict=True,
    ):
        assert all(word in line for word in words), line


@pytest.mark.parametrize("engine", ENGINES)
def test_folds_of_two_tiles_add_up(engine: str) -> None:
    """Tiles that share a window's side less one: every place of the window is in one of them, sample by sample."""
    loss: Any = lf.SSIMLoss(engine=engine, sample_wise=True)
    whole = WindowCase("SSIMLoss", {}).make((50, 30), way=("", "channels"))
    parts = [whole.each(lambda one, rows=rows: one[:, :, rows]) for rows in (slice(0, 30), slice(20, 50))]  # type: ignore[misc]
    (fold, given), (first, _), (second, _) = (internals.collected(loss, *data.call) for data in (whole, *parts))
    for one, other in zip((first + second).sums, fold.sums, strict=True):
        close(one, other)
    close(internals.settled(loss, first + second, given), internals.settled(loss, fold, given))
