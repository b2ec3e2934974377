"""Losses of depth and flow against NumPy in float64: holes, masks, singular fits, sequences, and peers where they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import close
from tests.losses.images.test_images import check_gradient, exact


def scene(batch: int = 2, height: int = 9, width: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    """Depths, measured ones with holes of every kind, and weights."""
    generator = torch.Generator().manual_seed(4)
    pred, target, weight = (torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) for _ in range(3))
    pred, target = 0.5 + pred, 0.5 + target
    return pred, target, weight


def with_holes(target: Tensor) -> tuple[Tensor, Tensor]:
    """The same with holes, and what was measured."""
    target = target.clone()
    for place, hole in enumerate((0.0, -1.0, torch.inf, torch.nan)):
        target[:, :, place, 2:6] = hole
    return target, target.isfinite() & (target > 0)


@pytest.mark.parametrize(
    "options", [{}, {"variance_focus": 0.5, "root": False}, {"variance_focus": 1.0, "per_image": True}], ids=str
)
def test_silog(options: dict[str, Any]) -> None:
    pred, target, weight = scene()
    holes, there = with_holes(target)
    focus = options.get("variance_focus", 0.85)

    def formula(p: Any, t: Any, w: Any) -> float:
        d = np.log(p) - np.log(t)
        value = np.average(d**2, weights=w) - focus * np.average(d, weights=w) ** 2
        return float(np.sqrt(value) if options.get("root", True) else value)

    rows = [[one[i][there[i]].numpy() for one in (pred, target, weight)] for i in range(2)]
    expected = (
        np.mean([formula(*row) for row in rows])
        if options.get("per_image")
        else formula(*map(np.concatenate, zip(*rows, strict=True)))
    )
    loss = lf.SILogLoss(**options)
    close(loss(pred, holes, weight), exact(expected))
    close(lf.SILogLoss(link="log", **options)(pred.log(), holes, weight), exact(expected))
    check_gradient(loss, pred, holes, weight)


def test_silog_where_logarithms_end() -> None:
    """A mask never lets log 0 through; a perfect depth has no slope of infinity; nothing measured costs nothing."""
    pred, target, _ = scene()
    leaf = pred.clone()
    leaf[:, :, 0] = 0
    leaf[0, 0, 1, 1] = torch.nan
    leaf.requires_grad_()
    mask = leaf.detach() > 0
    value = lf.SILogLoss()(leaf, target, mask)
    (slope,) = torch.autograd.grad(value, leaf)
    assert value.isfinite() and slope.isfinite().all() and slope[~mask].abs().max() == 0
    for measured in (target, torch.zeros_like(target)):
        same = target.clone().requires_grad_()
        value = lf.SILogLoss()(same, measured)
        assert value == 0 and torch.autograd.grad(value, same)[0].abs().max() == 0
    assert lf.SILogLoss()(torch.zeros(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 2, 2)).isfinite()
    half = lf.SILogLoss()(pred.half(), target.half())
    assert half.dtype == torch.float32
    close(half.double(), lf.SILogLoss()(pred, target), 1e-2)


def invariant(
    p: Any, t: Any, w: Any, data: str, align: str, trim: float, factor: float, scales: int
) -> tuple[list[float], list[float]]:
    """Numerators and denominators of one image, pixel by pixel."""
    seen = w > 0
    if align == "least_squares":
        a = np.stack([p[seen], np.ones(seen.sum())], 1) * np.sqrt(w[seen])[:, None]
        (scale, shift), *_ = np.linalg.lstsq(a, t[seen] * np.sqrt(w[seen]), rcond=None)
        residual = np.where(seen, scale * p + shift - t, 0)
    else:

        def normal(x: Any) -> Any:
            middle = np.sort(x[seen])[(seen.sum() - 1) // 2]
            return (x - middle) / np.average(np.abs(x[seen] - middle), weights=w[seen])

        residual = np.where(seen, normal(p) - normal(t), 0)
    sizes, weights = np.abs(residual[seen]), w[seen]
    order = np.argsort(sizes)[: int(np.floor((1 - trim) * len(sizes)))]
    rho = sizes**2 if data == "mse" else sizes
    above, below = [float((weights * rho)[order].sum())], [2 * float(weights.sum())]
    for k in range(scales):
        r, v = residual[:: 2**k, :: 2**k], w[:: 2**k, :: 2**k]
        beside, below_it = np.minimum(v[:, 1:], v[:, :-1]), np.minimum(v[1:], v[:-1])
        steps = (np.abs(np.diff(r, axis=1)) * beside).sum() + (np.abs(np.diff(r, axis=0)) * below_it).sum()
        above.append(factor * float(steps))
        below.append(float(v.sum()))
    return above, below


@pytest.mark.parametrize("weights", ["mask", "soft"])
@pytest.mark.parametrize(
    "options",
    [{}, {"data": "l1", "align": "median", "trim": 0.2, "scales": 2}, {"data": "l1", "per_image": True, "gradient_weight": 2.0}],
    ids=str,
)
def test_scale_and_shift(options: dict[str, Any], weights: str) -> None:
    pred, target, weight = scene()
    weight = (weight > 0.3).double() if weights == "mask" else (weight - 0.2).clamp_min(0)
    asked = {"data": "mse", "align": "least_squares", "trim": 0.0, "gradient_weight": 0.5, "scales": 4, **options}
    arguments = [asked[name] for name in ("data", "align", "trim", "gradient_weight", "scales")]
    sums = np.array([invariant(*(one[i, 0].numpy() for one in (pred, target, weight)), *arguments) for i in range(2)])
    each = options.get("per_image")
    expected = (sums[:, 0] / sums[:, 1]).sum(1).mean() if each else (sums[:, 0].sum(0) / sums[:, 1].sum(0)).sum()
    loss = lf.ScaleShiftInvariantLoss(**options)
    close(loss(pred, target, weight), exact(expected), 1e-9)
    close(loss(3 * pred - 1, 0.5 * target + 7 if asked["align"] == "median" else target, weight), exact(expected), 1e-8)
    check_gradient(loss, pred, target, weight)


@pytest.mark.parametrize("align", ["least_squares", "median"])
def test_scale_and_shift_where_there_is_no_scale(align: str) -> None:
    """A constant prediction is defined, with the best constant in its place; one pixel, and none."""
    _, target, _ = scene()
    flat = torch.full_like(target, 0.3).float().requires_grad_()
    loss = lf.ScaleShiftInvariantLoss(align=align, gradient_weight=0.0)
    value = loss(flat, target.float())
    (slope,) = torch.autograd.grad(value, flat)
    assert value.isfinite() and slope.isfinite().all()
    assert slope.abs().max() == 0
    close(loss(1e-7 * target, target), torch.zeros_like(value.double()), 0, 1e-5)  # in any unit
    if align == "least_squares":
        mean = target.mean((2, 3), keepdim=True)
        close(value.double(), (target - mean).square().mean() / 2, 1e-5)
    for count in (0, 1):
        mask = torch.zeros_like(target, dtype=torch.bool)
        mask.flatten()[:count] = True
        leaf = target.clone().requires_grad_()
        value = loss(leaf, 2 * target, mask)
        assert value == 0 and torch.autograd.grad(value, leaf)[0].abs().max() == 0
    hidden = target.clone()
    hidden[0, 0, 0] = torch.nan
    assert loss(target, hidden).isfinite()


def test_smoothness() -> None:
    pred, _, weight = scene()
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    d, i, w = pred.numpy(), image.numpy(), weight.numpy()
    expected = 0.0
    for axis in (2, 3):
        edge = np.abs(np.diff(i, axis=axis)).mean(1, keepdims=True)
        first, second = (np.take(w, range(k, w.shape[axis] - 1 + k), axis=axis) for k in (0, 1))
        both = np.minimum(first, second)
        expected += (both * np.abs(np.diff(d, axis=axis)) * np.exp(-2 * edge)).sum() / both.sum()
    loss = lf.EdgeAwareSmoothnessLoss(edge_weight=2.0)
    close(loss(pred, image, weight), exact(expected))
    check_gradient(loss, pred, image, weight)
    close(
        lf.EdgeAwareSmoothnessLoss(normalize=True)(5 * pred, image), lf.EdgeAwareSmoothnessLoss(normalize=True)(pred, image), 1e-6
    )
    close(lf.EdgeAwareSmoothnessLoss(edge_weight=0.0)(pred, image), lf.TVLoss()(pred))
    each = torch.cat([torch.zeros_like(weight), weight], 1)  # what does not count of one channel is an edge of the other's
    flow = torch.cat([1 - pred, pred], 1)
    for order in ((0, 1), (1, 0)):
        close(loss(flow[:, order], image, each[:, order]), loss(pred, image, weight))
    kornia = pytest.importorskip("kornia.losses")
    close(lf.EdgeAwareSmoothnessLoss()(pred, image), kornia.InverseDepthSmoothnessLoss()(pred, image))
    with pytest.raises(lf.LossError, match="image must be of shape"):
        loss(pred, image[:, :, :5])


def test_flow() -> None:
    """Lengths, sums of components, sequences, long and unmeasured flows, and RAFT's own normalisation of them."""
    generator = torch.Generator().manual_seed(0)
    flows = [3 * torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.float64) for _ in range(4)]
    *preds, target = flows
    mask = torch.rand(2, 5, 6, generator=generator) > 0.4
    m = mask.numpy()
    lengths = [np.sqrt(((p - target).numpy() ** 2).sum(1)) for p in preds]
    close(lf.EPELoss()(preds[0], target, mask), exact(lengths[0][m].mean()))
    expected = sum(0.8 ** (2 - k) * one[m].mean() for k, one in enumerate(lengths))
    close(lf.EPELoss()(preds, target, mask), exact(expected))
    check_gradient(lambda p, t: lf.EPELoss()([p, preds[1]], t), preds[0], target)
    short = np.sqrt((target.numpy() ** 2).sum(1)) < 4
    sums = [np.abs((p - target).numpy()).sum(1) for p in preds]
    limited = lf.EPELoss(norm="l1", max_flow=4.0)
    close(limited(preds, target), exact(sum(0.8 ** (2 - k) * one[short].mean() for k, one in enumerate(sums))))
    raft = sum(0.8 ** (2 - k) * np.where(short[:, None], np.abs((p - target).numpy()), 0).mean() for k, p in enumerate(preds))
    close(limited(preds, target) * short.mean() / 2, exact(raft))
    robust = lf.EPELoss(norm="l1", exponent=0.4, eps=0.01)
    close(robust(preds[0], target), exact(((sums[0] + 0.01) ** 0.4).mean()))
    holes = target.clone()
    holes[:, 1, 0] = torch.nan
    close(lf.EPELoss()(preds[0], holes), exact(lengths[0][:, 1:].mean()))
    for loss in (lf.EPELoss(), lf.EPELoss(exponent=0.4)):
        same = target.clone().requires_grad_()
        value = loss(same, target)
        assert value == 0 and torch.autograd.grad(value, same)[0].abs().max() == 0
    for call, message in (
        (([], target), "an empty list"),
        ((preds[0][:, :, :3], target), "of shape"),
        ((preds[0], target, torch.rand(2, 2, 5, 6)), "components of a flow count together"),
        ((preds[0][0], target[0]), "the channel is required"),
    ):
        with pytest.raises(lf.LossError, match=message):
            lf.EPELoss()(*call)


def test_a_factor_on_weights_changes_nothing() -> None:
    """Neither the data term nor that of the gradients."""
    pred, target, weight = scene()
    loss = lf.ScaleShiftInvariantLoss()
    close(loss(pred, target, 0.25 * weight), loss(pred, target, weight))
    close(loss(pred, target, torch.full_like(weight, 0.5)), loss(pred, target))
