"""MixedMattingLoss against a loop over the samples, each alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate, same_bits
from tests.folds.pair.cases import PairCase
from tests.folds.pair.oracles import DEFAULTS, TERMS

CASE = PairCase("MixedMattingLoss", {})
LISTS: list[dict[str, Any]] = [
    {},
    {"segmentation": ["cross_entropy_loss", "focal_loss", "known_l1_loss"], "matting": list(TERMS)[:4]},
    {"segmentation": ["known_l1_loss"], "matting": ["known_l1_loss"]},
    {"segmentation": list(TERMS), "matting": ["smooth_l1_loss"]},
]
MIXES = {"binary": [1, 1, 1], "soft": [0, 0, 0], "mixed": [0, 1, 0], "one binary": [1], "one soft": [0]}


def batch(mix: list[int], dtype: torch.dtype = torch.float64) -> Data:
    data = CASE.make((16, 12), batch=len(mix), dtype=dtype)
    target = (data.target * 0.9 + 0.05).where(torch.tensor(mix).view(-1, 1, 1, 1) == 0, data.target.round())
    return Data(data.pred, target, data.weight)


def by_hand(data: Data, mix: list[int], engine: str, options: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample alone through the plain criterion of its list; terms and gradient."""
    lists = options.get("matting", DEFAULTS), options.get("segmentation", ["known_smooth_l1_loss"])
    terms = {name: torch.zeros((), dtype=torch.float64) for name in [*lists[1], *lists[0]]}
    leaf = data.leaf()
    total = torch.zeros((), dtype=torch.float64)
    assert data.weight is not None
    for i, binary in enumerate(mix):
        out = lf.MattingLoss(losses=list(lists[binary]), engine=engine)(
            leaf.pred[i : i + 1], data.target[i : i + 1], data.weight[i : i + 1]
        )
        total = total + out.total / len(mix)
        for name, value in out.terms.items():
            terms[name] = terms[name] + value / len(mix)
    return terms, torch.autograd.grad(total, leaf.pred)[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", LISTS, ids=range(len(LISTS)))
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_a_loop_over_the_samples(mix: list[int], options: dict[str, Any], engine: str) -> None:
    data = batch(mix)
    loss = lf.MixedMattingLoss(engine=engine, **options)
    truth, slope = by_hand(data, mix, engine, options)
    out = loss(*data.call)
    assert list(out.terms) == list(truth)
    for name, expected in truth.items():
        close(out.terms[name], expected)
    close(evaluate(loss, data)[1], slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_is_binary_takes_the_place_of_the_test(engine: str) -> None:
    data, mix = batch([1, 0, 1]), [0, 0, 1]
    loss = lf.MixedMattingLoss(engine=engine)
    leaf = data.leaf()
    out = loss(*leaf.call, torch.tensor(mix) == 1)
    truth, slope = by_hand(data, mix, engine, {})
    for name, expected in truth.items():
        close(out.terms[name], expected)
    close(torch.autograd.grad(out.total, leaf.pred)[0], slope)
    by_name = loss(pred=data.pred, target=data.target, region=data.weight, is_binary=torch.tensor(mix) == 1)
    same_bits(by_name.total, out.total.detach())


def test_all_0_and_all_1_are_binary_and_so_is_what_lies_between_them() -> None:
    """Of a sample whose target holds 0 and 1 both, "all 0 or all 1" would say no."""
    data = batch([0, 0, 0, 1])
    target = data.target.clone()
    target[0], target[1] = 0, 1
    loss = lf.MixedMattingLoss(segmentation=["smooth_l1_loss"], matting=["unknown_l1_loss"])
    out = loss(data.pred, target, data.weight)
    for name, mix in (("smooth_l1_loss", [1, 1, 0, 1]), ("unknown_l1_loss", [0, 0, 1, 0])):
        alone = lf.MattingLoss(losses=[name])
        assert data.weight is not None
        each = [alone(data.pred[i : i + 1], target[i : i + 1], data.weight[i : i + 1]).total for i in range(4)]
        close(out.terms[name], torch.stack([value for value, on in zip(each, mix, strict=True) if on]).sum() / 4)


@pytest.mark.parametrize(("tolerance", "binary"), [(0.0, False), (0.005, False), (0.02, True), (0.49, True)])
def test_tolerance(tolerance: float, binary: bool) -> None:
    data = batch([1])
    target = data.target.clamp(0.01, 0.99)
    out = lf.MixedMattingLoss(tolerance=tolerance)(data.pred, target, data.weight)
    assert (out.terms["known_smooth_l1_loss"] > 0) == binary
    assert (out.terms["unknown_l1_loss"] == 0) == binary


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_get_no_gradient_from_terms_that_are_not_theirs(engine: str) -> None:
    data = batch([0, 1]).leaf()
    out = lf.MixedMattingLoss(segmentation=["smooth_l1_loss"], matting=["loss_pha_laplacian"], engine=engine)(*data.call)
    for name, idle in (("smooth_l1_loss", 0), ("loss_pha_laplacian", 1)):
        (gradient,) = torch.autograd.grad(out.weighted[name], data.pred, retain_graph=True)
        assert gradient[idle].abs().max() == 0 and gradient[1 - idle].abs().max() > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sample_that_does_not_apply_spoils_nothing(engine: str) -> None:
    """NaN in a soft sample's prediction is not in the terms of the binary ones."""
    data = batch([0, 1])
    data.pred[0, 0, 3, 3] = torch.nan
    out = lf.MixedMattingLoss(segmentation=["smooth_l1_loss"], matting=["unknown_l1_loss"], engine=engine)(*data.call)
    assert torch.isfinite(out.terms["smooth_l1_loss"]) and out.terms["unknown_l1_loss"].isnan()


def test_one_name_in_both_lists_is_one_loss() -> None:
    with pytest.raises(lf.LossError, match="known_smooth_l1_loss"):
        lf.MixedMattingLoss(segmentation=[lf.KnownSmoothL1Loss(beta=0.1)], matting=["known_smooth_l1_loss"])
    both = lf.MixedMattingLoss(segmentation=["smooth_l1_loss"], matting=["smooth_l1_loss", "unknown_l1_loss"])
    data = batch([0, 1, 0])
    close(both(*data.call).terms["smooth_l1_loss"], lf.SmoothL1Loss()(data.pred, data.target))


def test_terms_need_a_value_for_each_sample() -> None:
    for wrong in (lf.L1Loss(reduction="none"), lf.L1Loss(reduction="sum"), lf.LossSet(a=lf.L1Loss()), 3):
        with pytest.raises(lf.LossError, match=r"segmentation|matting"):
            lf.MixedMattingLoss(matting=[wrong])


@pytest.mark.parametrize("engine", [*(pytest.param(one, marks=pytest.mark.slow) for one in ENGINES[:-1]), ENGINES[-1]])
def test_a_mix_that_changes_compiles_once(engine: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    loss = lf.MixedMattingLoss(engine=engine)
    run = torch.compile(lambda *given: loss(*given).total, fullgraph=True, backend=counter)
    for mix in ([0, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]):
        data = batch(mix, torch.float32).leaf()
        result = run(*data.call)
        (gradient,) = torch.autograd.grad(result, data.pred)
        truth, slope = evaluate(loss, data)
        close(result.detach(), truth, 1e-6, 1e-7)
        close(gradient, slope, 1e-5, 1e-8)
    assert counter.frame_count == 1
    torch._dynamo.reset()
