"""Scores so large that probabilities are 0 and 1, infinities, images too large for a half-precision sum, and odd sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, Case, Data, close, evaluate
from tests.contract.cases import A_LOSS, CASES, each, every
from tests.contract.truth import no_worse, plainly, truth_of
from tests.folds.dense.cases import DenseCase
from tests.folds.label.cases import LabelCase, ScoreCase

engines = pytest.mark.parametrize("engine", ENGINES)
LOGITS = [case for case in CASES if isinstance(case, ScoreCase) and case.link != "identity"]


def tolerance(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-5


@each(LOGITS)
def test_large_logits(case: ScoreCase, dtypes: list[torch.dtype]) -> None:
    """Finite everywhere, and accurate: -log p is thousands, p is 0 or 1 to the last bit."""
    turn = LOGITS.index(case)
    for i, dtype in enumerate(dtypes):
        wide = (turn + i) % 2 == 0
        way = ("int64" if case.fold == "label" else ("soft", "int")[(turn + i) // 2 % 2], None)
        data = case.make((13, 11), way=way)
        scores = data.pred * 25 if wide else data.pred.sign() * 1e4
        data = case.settled(data.with_pred(scores.to(dtype)))
        found = {engine: evaluate(case.build(engine=engine), data) for engine in case.engines}
        assert all(torch.isfinite(result).all() and torch.isfinite(gradient).all() for result, gradient in found.values())
        if isinstance(case, DenseCase) and case.hinge and case.bins and not wide:
            continue  # errors of thousands: the value's rounding is a share of a wide bin
        truth, slope = truth_of(case, data)
        for engine, (result, gradient) in found.items():
            close(result.double().sum(), truth.sum(), tolerance(dtype), tolerance(dtype), 16 * case.grain)
            if case.fold == "label" and not case.steep:
                eps = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12
                least = 8 * eps * slope.abs().max().item() + torch.finfo(dtype).tiny
                close(gradient.double(), slope, 4 * eps, least + case.slope_grain(data, torch.ones_like(truth)))
            else:
                # (-log p)^-0.7 has 0.7 / -log p times the rounding of -log p
                grain = 1e-11 * slope.abs().max().item() if case.name == "ExpLogLoss" and dtype == torch.float64 else 0.0
                no_worse(engine, gradient, slope, plainly(case, data)[1], found["eager"][1], grain=grain)


@engines
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0, 2.0, 3.5])
def test_focal_at_saturation(engine: str, gamma: float, dtype: torch.dtype) -> None:
    """p is 1 in the dtype: 1 - p is 0, its power's derivative infinite for gamma < 1, the gradient yet finite."""
    scores = torch.tensor([[[60.0, -60.0, 16.0], [-60.0, 60.0, -16.0]]]).to(dtype)
    data = Data(scores, torch.zeros(1, 3, dtype=torch.int64))
    result, gradient = evaluate(lf.FocalLoss(gamma=gamma, engine=engine), data)
    assert torch.isfinite(result) and torch.isfinite(gradient).all()
    close(result.double(), torch.tensor(40.0, dtype=torch.float64), 1e-5, 0)
    third = torch.tensor(-1 / 3, dtype=torch.float64)
    close(gradient[0, 0, 1].double(), third, 4 * torch.finfo(dtype).eps, 0)
    assert (gradient[0, 0, 0].abs() <= 1e-20) and (gradient[0].sum(0).abs() <= 1e-3).all()


@engines
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0, 2.0, 3.5])
def test_focal_of_masks_at_saturation(engine: str, gamma: float, dtype: torch.dtype) -> None:
    scores = torch.tensor([[[60.0, -60.0, 60.0, -60.0]]]).to(dtype)
    targets = torch.tensor([[[1, 0, 0, 1]]])
    loss = lf.FocalLoss(link="sigmoid", gamma=gamma, engine=engine)
    result, gradient = evaluate(loss, Data(scores, targets))
    close(result.double(), torch.tensor(30.0, dtype=torch.float64), 1e-5, 0)
    assert torch.isfinite(gradient).all() and (gradient[0, 0, :2].abs() <= 1e-10).all()
    expected = torch.tensor([0.25, -0.25], dtype=torch.float64)
    close(gradient[0, 0, 2:].double(), expected, 4 * torch.finfo(dtype).eps, 0)
    soft, slope = evaluate(loss, Data(scores, torch.full((1, 1, 4), 0.25)))
    assert torch.isfinite(soft) and torch.isfinite(slope).all()
    ends = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]]).to(dtype)
    result, gradient = evaluate(lf.FocalLoss(link="identity", gamma=gamma, engine=engine), Data(ends, targets))
    assert torch.isfinite(result) and torch.isfinite(gradient).all()


@engines
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bce_of_huge_logits_is_the_logit(engine: str, sign: float, dtype: torch.dtype) -> None:
    scores = (sign * torch.tensor([[[1e4, -1e4, 3e4, 0.0]]])).to(dtype)
    targets = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]], dtype=torch.float64)
    result, gradient = evaluate(lf.BinaryCrossEntropyLoss(engine=engine, reduction="none"), Data(scores, targets))
    expected = functional.binary_cross_entropy_with_logits(scores.double(), targets, reduction="none")
    close(result.double(), expected, 1e-6, 1e-12)
    close(gradient.double(), scores.double().sigmoid() - targets, 4 * torch.finfo(dtype).eps, 1e-12)


@every([case for case in LOGITS if case.fold == "label"])
def test_minus_infinity_masks_a_class(case: LabelCase, dtypes: list[torch.dtype]) -> None:
    """A class that no label names, its logits -inf: the same as logits so low that its probability is 0."""
    for dtype in dtypes:
        data = case.make((5, 7), dtype=dtype)
        masked = case.classes - 2
        assert (data.truth != masked).all()
        low, hidden = data.pred.clone(), data.pred.clone()
        low[:, masked], hidden[:, masked] = -3e4, -torch.inf
        result, gradient = evaluate(case.build(), data.with_pred(hidden))
        if case.options.get("label_smoothing"):
            assert (result == torch.inf).any(), "smoothing asks for a class that cannot be: infinite, as in torch"
            continue
        truth, slope = evaluate(case.build(), data.with_pred(low))
        close(result, truth, tolerance(dtype), tolerance(dtype), case.grain)
        close(gradient, slope, 4 * torch.finfo(dtype).eps, 1e-7)
        assert gradient[:, masked].abs().max() == 0


@engines
def test_ten_million_half_pixels(engine: str) -> None:
    """Sums of 10^7 float16 pixels: far above 65504, and above what float32 can count one by one."""
    size, classes = 10_000_000 if engine == "cpp" else 4_000_000, 2
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, classes, size, generator=generator, dtype=torch.float32).half()
    labels = torch.randint(0, classes, (1, size), generator=generator, dtype=torch.uint8)
    terms: dict[str, Any] = {
        "ce": lf.CrossEntropyLoss(engine=engine, reduction="sum"),
        "dice": lf.DiceLoss(engine=engine),
        "generalized": lf.GeneralizedDiceLoss(engine=engine, weighting="square"),
    }
    if engine == "cpp":
        terms |= {"focal": lf.FocalLoss(engine=engine), "jaccard": lf.JaccardLoss(engine=engine)}
        terms |= {"tversky": lf.TverskyLoss(engine=engine)}
    scores.requires_grad_()
    out = lf.LossSet(terms)(scores, labels)
    out.total.backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all() and scores.grad.abs().max() > 0
    assert all(torch.isfinite(term) for term in out.terms.values())
    logits = scores.detach().float()
    exact = functional.cross_entropy(logits, labels.long(), reduction="none").double().sum()
    close(out.terms["ce"].double(), exact, 1e-6, 0)
    p, foreground, dice = torch.softmax(logits, 1)[0], labels[0] == 1, []
    for c, mask in enumerate((~foreground, foreground)):
        overlap, area, true = p[c][mask].double().sum(), p[c].double().sum(), mask.double().sum()
        dice.append(1 - (2 * overlap + 1) / (area + true + 1))
    close(out.terms["dice"].double(), torch.stack(dice).mean(), 1e-6, 0)


@engines
def test_millions_of_half_elements(engine: str) -> None:
    size = 3_000_000 if engine == "eager" else 10_000_000
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


def near(case: Case, data: Data, tight: float = 1e-6) -> None:
    """In float32, engine for engine, to the truth."""
    truth, slope = truth_of(case, data)
    largest = max(1.0, slope.abs().max().item()) if slope.numel() else 1.0
    for engine in case.engines:
        result, gradient = evaluate(case.build(engine=engine), data)
        close(result.double().sum(), truth.sum(), tight, tight)
        close(gradient.double(), slope, 1e-4, 1e-6 * largest)


@pytest.mark.parametrize("classes", [2, 3, 7, 8, 9, 16, 17, 33, 64, 150, 257])
def test_numbers_of_classes(classes: int) -> None:
    """Around the widths of vectors, and beyond what uint8 labels can name."""
    for case in CASES:
        listed = case.options.get("classes", "present")
        fits = case.any_channels or (isinstance(listed, list | tuple) and max(listed) < classes)
        if not isinstance(case, LabelCase) or case.link != "softmax" or case.per_class or not fits:
            continue
        generator = torch.Generator().manual_seed(classes)
        scores = torch.randn(1, classes, 37, generator=generator)
        labels = torch.randint(0, classes, (1, 37), generator=generator)
        near(case, case.settled(Data(scores, labels)), 1e-5)


SIZES: dict[str, list[ScoreCase]] = {
    "label": [
        LabelCase("CEDiceLoss", {}),
        LabelCase("FocalLoss", {}),
        LabelCase("LovaszLoss", {"exact": False}),
        LabelCase("OhemCrossEntropyLoss", {"min_kept": 5, "thresh": 0.2}),
    ],
    "dense": [
        DenseCase("BinaryCrossEntropyLoss", {}),
        DenseCase("FocalLoss", {"link": "sigmoid"}),
        DenseCase("DiceLoss", {"link": "sigmoid"}),
        DenseCase("CrossEntropyLoss", {}),
        DenseCase("LovaszLoss", {"link": "hinge", "exact": False}),
    ],
}


@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 255, 256, 257, 1023, 4096, 4099])
def test_sizes_around_blocks(size: int) -> None:
    """Also [N, 1, P] and [B, K] with as many rows."""
    for case in SIZES["label"]:
        near(case, case.settled(case.make((size,), dtype=torch.float32, way=case.rich)))
    for case in SIZES["dense"]:
        for classes in (1, 3, 17):
            if case.link == "softmax" and classes == 1:
                continue  # refused
            for space, batch in (((size,), 2), ((), size)):
                if case.name == "LovaszLoss" and batch * classes > 300:
                    continue  # a histogram for each of as many images is the test's time
                data = case.make(space, batch=batch, channels=classes, dtype=torch.float32, way=case.rich)
                near(case, case.settled(data))


@engines
@pytest.mark.parametrize("link", ["softmax", "identity"])
def test_powers_at_saturation(engine: str, link: str, dtype: torch.dtype) -> None:
    """A power of 0.3 of -log p is steeper the less there is of it: its slope ends at 1e-7, and is 0 where p is 1 to float32."""
    away = torch.tensor([0.0, 1e-30, 1e-12, 1e-8, 1e-4, 0.5], dtype=torch.float64)
    scores = torch.stack([1 - away, away]) if link == "identity" else torch.stack([-away.clamp_min(1e-300).log(), 0 * away])
    data = Data(scores[None].to(dtype), torch.zeros(1, 6, dtype=torch.int64))
    result, gradient = evaluate(lf.ExpLogLoss(dice_weight=0.0, ce_weight=1.0, link=link, engine=engine), data)
    assert torch.isfinite(result) and gradient.abs().max() <= 0.3 * 1e-7**-0.7 / 6
    assert (gradient[..., :3] == 0).all() and (gradient[0, 0, 5] < 0).item()
    sure = Data(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).to(dtype), torch.tensor([[0, 1]]))
    dice = lf.ExpLogLoss(ce_weight=0.0, dice_weight=1.0, link="identity", smooth=0.0, engine=engine)
    result, gradient = evaluate(dice, sure)
    assert result == 0 and torch.isfinite(gradient).all() and gradient.abs().max() <= 1e-7**-0.7


@engines
@pytest.mark.parametrize("large", [3e4, 6e4])
def test_large_half_images(engine: str, large: float) -> None:
    """Squares of 10^9 and sums far above 65504 are nothing to float32."""
    pred = torch.full((1, 1, 64, 64), large, dtype=torch.float16)
    data = Data(pred, torch.zeros_like(pred))
    size: Tensor = pred[0, 0, 0, 0].double()
    for name, expected in (("L1Loss", size), ("MSELoss", size**2), ("CharbonnierLoss", size), ("SmoothL1Loss", size - 0.5)):
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), data)
        close(result.double(), expected, 1e-6, 0)
        assert torch.isfinite(gradient).all() and (gradient > 0).all()


def test_every_loss_of_logits_is_here() -> None:
    reading = {case.name for case in A_LOSS if isinstance(case, ScoreCase) and case.link != "identity"}
    assert {case.name for case in LOGITS} == reading
