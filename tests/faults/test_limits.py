"""0 times infinity is 0 in the dense losses, as in those of labels: the limit, whose gradient is finite."""

from __future__ import annotations

import math

import pytest
import torch

import lossfold as lf

ENGINES = lf.engines.available()
INF = math.inf
every_engine = pytest.mark.parametrize("engine", [*ENGINES, "definition"])


def evaluated(loss: lf.losses.base.Loss, z: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = z.clone().requires_grad_()
    value = loss(z, *given)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def build(cls: type, engine: str, **options: object) -> lf.losses.base.Loss:
    """The definition serves where second derivatives are wanted, and where a weight takes a gradient."""
    return cls(engine="eager" if engine == "definition" else engine, **options)


@every_engine
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_infinite_logits_that_are_right(engine: str, reduction: str, gamma: float | None, kind: torch.dtype) -> None:
    z = torch.tensor([[[INF, -INF, 0.3, INF, -1.0] * 9]], dtype=kind)
    t = torch.tensor([[[1.0, 0.0, 1.0, 1.0, 0.0] * 9]])
    w = torch.ones(1, 45, requires_grad=engine == "definition")
    options = {"reduction": reduction, "link": "sigmoid"}
    focal = {} if gamma is None else {"gamma": gamma, "alpha": 0.25}
    loss = build(lf.BinaryCrossEntropyLoss if gamma is None else lf.FocalLoss, engine, **options, **focal)
    value, slope = evaluated(loss, z, t, w)
    close, its_slope = evaluated(loss, z.clamp(-80, 80), t, w)
    assert value.isfinite().all() and slope.isfinite().all()
    torch.testing.assert_close(value, close)
    torch.testing.assert_close(slope, its_slope)


@every_engine
@pytest.mark.parametrize("gamma", [None, 0.5, 2.0])
def test_infinite_logits_that_are_wrong(engine: str, gamma: float | None) -> None:
    """The loss is infinite, and not NaN; so are other elements' gradients what they are."""
    z, t = torch.tensor([[[-INF, 0.3, INF]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    w = torch.ones(1, 3, requires_grad=engine == "definition")
    loss = build(lf.BinaryCrossEntropyLoss, engine) if gamma is None else build(lf.FocalLoss, engine, link="sigmoid", gamma=gamma)
    value, slope = evaluated(loss, z, t, w)
    assert value == INF and not slope[..., 1].isnan()
    if engine != "definition":
        assert slope.isfinite().all()


@every_engine
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_of_a_class_that_is_masked(engine: str, smoothing: float) -> None:
    z = torch.randn(2, 4, 33)
    z[:, 1] = -INF
    t = torch.rand(2, 4, 33)
    t[:, 1] = 0
    t /= t.sum(1, keepdim=True)
    w = torch.ones(2, 33, requires_grad=engine == "definition")
    loss = build(lf.CrossEntropyLoss, engine, label_smoothing=smoothing)
    value, slope = evaluated(loss, z, t, w)
    assert slope.isfinite().all()
    if smoothing:
        assert value == INF
        return
    others = [0, 2, 3]
    expected, its_slope = evaluated(loss, z[:, others], t[:, others], w)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(slope[:, others], its_slope)
    hot = torch.nn.functional.one_hot(torch.randint(2, 4, (2, 33)), 4).movedim(-1, 1)
    value, _ = evaluated(loss, z, hot, w)
    torch.testing.assert_close(value, loss(z, hot.argmax(1)))


@every_engine
@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_nan_still_shows(engine: str, link: str) -> None:
    z, t = torch.randn(2, 3, 9), torch.rand(2, 3, 9).round()
    z[1, 2, 4] = torch.nan
    t[:, :2] = 0
    w = torch.ones(2, 9, requires_grad=engine == "definition")
    losses = [build(lf.CrossEntropyLoss, engine)] if link == "softmax" else []
    losses += [build(lf.BinaryCrossEntropyLoss, engine), build(lf.FocalLoss, engine, link="sigmoid")] if link == "sigmoid" else []
    for loss in losses:
        value, slope = evaluated(loss, z, t, w)
        assert value.isnan() and slope[1, 2, 4].isnan()
        assert lf.LossSet(a=loss, b=lf.DiceLoss(link=link, engine=loss.engine))(z, t, w).terms["a"].isnan()


@every_engine
def test_class_weight_0_takes_infinity_away(engine: str) -> None:
    z = torch.tensor([[[0.5, INF], [-1.0, 0.2]]])
    w = torch.ones(1, 2, requires_grad=engine == "definition")
    loss = build(lf.BinaryCrossEntropyLoss, engine, class_weight=[0, 1])
    value, slope = evaluated(loss, z, torch.zeros(1, 2, 2), w)
    torch.testing.assert_close(value, torch.nn.functional.softplus(z[:, 1]).mean())
    assert slope.isfinite().all()


@every_engine
def test_a_probability_a_rounding_above_1_in_ohem(engine: str) -> None:
    """The fold is the sum of its own map, in every engine the same."""
    p = torch.rand(1, 2, 6, dtype=torch.float64).softmax(1)
    p[0, 0, :3] = torch.tensor([1 + 1e-7, 1 + 2e-7, 1.0])
    y, w = torch.zeros(1, 6, dtype=torch.long), torch.ones(1, 6, requires_grad=engine == "definition")
    for options in ({"thresh": 1.0, "min_kept": 0}, {"min_kept": 5}, {"min_kept": 6}):
        loss = build(lf.OhemCrossEntropyLoss, engine, link="identity", reduction="sum", **options)
        value, slope = evaluated(loss, p, y, w)
        torch.testing.assert_close(value, -p[0, 0].clamp(max=1).log().sum(), rtol=1e-15, atol=0)
        loss.reduction = "none"
        values, its_slope = evaluated(loss, p, y, w)
        torch.testing.assert_close(values.sum(), value, rtol=1e-15, atol=0)
        torch.testing.assert_close(its_slope, slope, rtol=1e-12, atol=0)
