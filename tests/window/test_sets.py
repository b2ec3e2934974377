"""Window losses in sets: one pass for all that can share it, beside other losses, by name, and folds that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.cases import ENGINES, close, same_bits
from tests.operators import Watch
from tests.window.cases import WindowCase, WindowData, evaluate, every_window_case, make_images, samples, window_cases

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
CASE = WindowCase("MSSSIMLoss", {"betas": (0.2, 0.5, 0.3)})
SCALARS = [case for case in samples() if not case.maps]


@native
def test_ssim_and_ms_ssim_share_a_pass_at_each_scale() -> None:
    data = make_images(CASE, weight="soft")
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
    data = make_images(CASE, weight="soft")
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
    data = make_images(CASE)
    options = {"engine": ENGINES[-1], **other}
    out = lf.LossSet(a=lf.SSIMLoss(engine=ENGINES[-1]), b=lf.SSIMLoss(**options))(*data.call)
    close(out.terms["a"], lf.SSIMLoss()(*data.call))
    close(out.terms["b"], lf.SSIMLoss(**options)(*data.call))
    assert other == {"engine": "eager"} or out.terms["a"] != out.terms["b"]


@native
def test_another_image_or_weight_makes_a_pass_of_its_own() -> None:
    data = make_images(CASE, weight="soft")
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


@every_window_case(among=SCALARS)
def test_inputs_by_name(case: WindowCase) -> None:
    data = make_images(case, weight="soft")
    truth, _ = evaluate(case.build(), data)
    own = {"pred": data.pred, "target": data.target, "weight": data.weight}
    deep = {"net": {"outputs": [data.pred]}, "target": data.target, "weight": data.weight}
    same_bits(case.build()(own), truth)
    same_bits(case.build()(outputs_dict=own), truth)
    same_bits(case.build()(**own), truth)
    same_bits(case.build(inputs={"pred": "net.outputs.0"})(deep), truth)
    with pytest.raises(lf.LossError, match="target"):
        case.build()({"pred": data.pred})


@every_window_case(among=samples())
def test_loss_weight(case: WindowCase) -> None:
    data = make_images(case)
    truth, slope = evaluate(case.build(), data)
    for loss in (case.build(loss_weight=0.25), 0.25 * case.build(), 0.5 * case.build(loss_weight=0.5)):
        result, gradient = evaluate(loss, data)
        close(result, 0.25 * truth)
        close(gradient, 0.25 * slope)


def fold_of(loss: Any, data: WindowData) -> tuple[Any, Any]:
    return internals.collected(loss, *data.call)


@every_window_case(
    among=[case for case in window_cases() if case.name == "SSIMLoss" and not case.maps and "sample_wise" not in case.options]
)
def test_folds_of_two_batches_add_up(case: WindowCase) -> None:
    """A loss of the sum is that of one batch of both."""
    loss: Any = case.build()
    whole = make_images(case, batch=4, weight="soft")
    parts = [whole.each(lambda one, part=part: one[2 * part : 2 * part + 2]) for part in range(2)]  # type: ignore[misc]
    (fold, given), (first, _), (second, _) = (fold_of(loss, data) for data in (whole, *parts))
    close(internals.settled(loss, first + second, given), internals.settled(loss, fold, given))
    with pytest.raises(lf.LossError, match="Fold: other"):
        first + fold  # of another batch size


@pytest.mark.parametrize("engine", ENGINES)
def test_folds_of_two_tiles_add_up(engine: str) -> None:
    """Tiles that share a window's side less one: every place of the window is in one of them, sample by sample."""
    loss: Any = lf.SSIMLoss(engine=engine, sample_wise=True)
    whole = make_images(WindowCase("SSIMLoss", {}), (50, 30), weight="channels")
    parts = [whole.each(lambda one, rows=rows: one[:, :, rows]) for rows in (slice(0, 30), slice(20, 50))]  # type: ignore[misc]
    (fold, given), (first, _), (second, _) = (fold_of(loss, data) for data in (whole, *parts))
    for one, other in zip((first + second).sums, fold.sums, strict=True):
        close(one, other)
    close(internals.settled(loss, first + second, given), internals.settled(loss, fold, given))
