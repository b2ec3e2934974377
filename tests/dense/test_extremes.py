"""Large scores, infinities, NaN and masks too large for a half-precision sum."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate
from tests.dense import plain
from tests.dense.cases import DenseCase, every_dense_case, make_dense, samples
from tests.dense.steps import settled
from tests.truth import no_worse

LOGITS = [case for case in samples() if case.link != "identity"]


@every_dense_case(among=LOGITS)
@pytest.mark.parametrize("spread", [25.0, 1e4])
@pytest.mark.parametrize("target", ["soft", "int"])
def test_large_logits(case: DenseCase, spread: float, target: str, dtypes: list[torch.dtype]) -> None:
    """Finite everywhere, and accurate: -log p is thousands, p is 0 or 1 to the last bit."""
    for dtype in dtypes:
        data = make_dense(case, (13, 11), target=target)
        scores = data.scores * spread if spread == 25 else data.scores.sign() * spread
        data = settled(case, Data(scores.to(dtype), data.labels))
        result, gradient = evaluate(case.build(), data)
        assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
        wide = Data(data.scores.double(), data.labels, data.weight).leaf()
        if case.hinge and case.bins and spread == 1e4:
            continue  # errors of thousands: the value's rounding is a share of a wide bin
        truth = plain.evaluate(case, wide)
        (slope,) = torch.autograd.grad(truth.sum(), wide.scores)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        close(result.double().sum(), truth.detach().sum(), tolerance, tolerance, 16 * case.grain)
        leaf = data.leaf()
        (naive,) = torch.autograd.grad(plain.evaluate(case, leaf).sum(), leaf.scores)
        _, reference = evaluate(case.changed(engine="eager").build(), data)
        no_worse(gradient, slope, naive, reference)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bce_of_huge_logits_is_the_logit(engine: str, sign: float, dtype: torch.dtype) -> None:
    scores = (sign * torch.tensor([[[1e4, -1e4, 3e4, 0.0]]])).to(dtype)
    targets = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]], dtype=torch.float64)
    result, gradient = evaluate(lf.BinaryCrossEntropyLoss(engine=engine, reduction="none"), Data(scores, targets))
    expected = functional.binary_cross_entropy_with_logits(scores.double(), targets, reduction="none")
    close(result.double(), expected, 1e-6, 1e-12)
    close(gradient.double(), scores.double().sigmoid() - targets, 4 * torch.finfo(dtype).eps, 1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0, 2.0, 3.5])
def test_focal_at_saturation(engine: str, gamma: float, dtype: torch.dtype) -> None:
    """p is 1 in the dtype: the derivative of (1 - p)^gamma is infinite for gamma < 1, the gradient yet finite."""
    scores = torch.tensor([[[60.0, -60.0, 60.0, -60.0]]]).to(dtype)
    targets = torch.tensor([[[1, 0, 0, 1]]])
    result, gradient = evaluate(lf.FocalLoss(link="sigmoid", gamma=gamma, engine=engine), Data(scores, targets))
    close(result.double(), torch.tensor(30.0, dtype=torch.float64), 1e-5, 0)
    assert torch.isfinite(gradient).all() and (gradient[0, 0, :2].abs() <= 1e-10).all()
    expected = torch.tensor([0.25, -0.25], dtype=torch.float64)
    close(gradient[0, 0, 2:].double(), expected, 4 * torch.finfo(dtype).eps, 0)
    soft, slope = evaluate(lf.FocalLoss(link="sigmoid", gamma=gamma, engine=engine), Data(scores, torch.full((1, 1, 4), 0.25)))
    assert torch.isfinite(soft) and torch.isfinite(slope).all()
    ends = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]]).to(dtype)
    result, gradient = evaluate(lf.FocalLoss(link="identity", gamma=gamma, engine=engine), Data(ends, targets))
    assert torch.isfinite(result) and torch.isfinite(gradient).all()


@every_dense_case(among=samples())
def test_nan_stays_visible(case: DenseCase, dtypes: list[torch.dtype]) -> None:
    """A NaN score shows in the value; in a map at its element (pixel) alone."""
    for dtype, target in ((dtype, target) for dtype in dtypes for target in ("soft", "int")):
        data = make_dense(case, (5, 7), dtype=dtype, target=target, ignored=0.0)
        data.labels[0, 2, 2, 3] = 1
        data.scores[0, 2, 2, 3] = torch.nan
        result, gradient = evaluate(case.build(), data)
        assert result.isnan().any()
        if case.link in ("sigmoid", "softmax"):
            assert gradient[0, 2, 2, 3].isnan()
        if case.maps:
            expected = torch.zeros(result.shape, dtype=torch.bool)
            expected[(0, 2, 3) if case.together else (0, 2, 2, 3)] = True
            assert torch.equal(result.isnan(), expected)


@every_dense_case(among=samples())
def test_nan_weights_stay_visible(case: DenseCase) -> None:
    data = make_dense(case, weight="element")
    assert data.weight is not None
    data.weight[0, 0, 0] = torch.nan
    result, _ = evaluate(case.build(), data)
    assert result.isnan().any()


@pytest.mark.parametrize("engine", ENGINES)
def test_ten_million_half_elements(engine: str) -> None:
    """Sums of 10^7 float16 elements: far above 65504, and above what float32 can count one by one."""
    size = 5_000_000 if engine == "eager" else 10_000_000
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 1, size, generator=generator).half()
    targets = torch.rand(1, 1, size, generator=generator) < 0.3
    options = {"link": "sigmoid", "engine": engine}
    terms = {
        "bce": lf.BinaryCrossEntropyLoss(engine=engine, reduction="sum"),
        "dice": lf.DiceLoss(**options),
        "generalized": lf.GeneralizedDiceLoss(**options),
    }
    scores.requires_grad_()
    out = lf.LossSet(terms)(scores, targets)
    out.total.backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all() and scores.grad.abs().max() > 0
    z = scores.detach().float()
    p = z.sigmoid()
    exact = functional.binary_cross_entropy_with_logits(z, targets.float(), reduction="none").double().sum()
    close(out.terms["bce"].double(), exact, 1e-6, 0)
    dice = 1 - (2 * p[targets].double().sum() + 1) / (p.double().sum() + targets.sum() + 1)
    close(out.terms["dice"].double(), dice, 1e-6, 0)
    assert torch.isfinite(out.terms["generalized"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 7, 16, 17, 255, 257, 1023, 4099])
@pytest.mark.parametrize("classes", [1, 3, 17])
def test_sizes_around_blocks(engine: str, size: int, classes: int) -> None:
    """Also [N, 1, P] and [B, K] with as many rows."""
    for name, options in [
        ("BinaryCrossEntropyLoss", {}),
        ("FocalLoss", {"link": "sigmoid"}),
        ("DiceLoss", {"link": "sigmoid"}),
        ("CrossEntropyLoss", {}),
        ("LovaszLoss", {"link": "hinge"}),
    ]:
        case = DenseCase(name, options | {"engine": engine})
        if case.link == "softmax" and classes == 1:
            continue  # refused
        for space, batch in (((size,), 2), ((), size)):
            if case.name == "LovaszLoss" and batch * classes > 300:
                continue  # a histogram for each of as many images is the test's time
            data = settled(case, make_dense(case, space, batch=batch, classes=classes, dtype=torch.float32, weight="element"))
            result, gradient = evaluate(case.build(), data)
            wide = Data(data.scores.double(), data.labels, data.weight).leaf()
            truth = plain.evaluate(case, wide)
            (slope,) = torch.autograd.grad(truth, wide.scores)
            close(result.double(), truth.detach(), 1e-6, 1e-6)
            close(gradient.double(), slope, 1e-4, 1e-6 * max(1.0, slope.abs().max().item()))
