"""Learned weights: values, gradients, compiled code, and that they find what the formula says."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf


def made() -> tuple[lf.UncertaintyWeights, torch.Tensor, torch.Tensor]:
    terms = lf.LossSet(ce=lf.CrossEntropyLoss(), inner=0.5 * lf.LossSet(dice=lf.DiceLoss(), lovasz=lf.LovaszLoss()))
    return lf.UncertaintyWeights(terms), torch.randn(2, 4, 6, 5, requires_grad=True), torch.randint(0, 4, (2, 6, 5))


def test_value_and_gradients() -> None:
    criterion, scores, labels = made()
    with torch.no_grad():
        criterion.log_variances.copy_(torch.tensor([0.3, -0.2, 0.0]))
    s = criterion.log_variances.detach()
    ce, dice, lovasz = (loss(scores, labels) for loss in (lf.CrossEntropyLoss(), lf.DiceLoss(), lf.LovaszLoss()))
    values = torch.stack([ce, dice / 2, lovasz / 2])
    truth = ((-s).exp() * values + s / 2).sum()
    out = criterion(scores, labels)
    torch.testing.assert_close(out.total, truth)
    torch.testing.assert_close(out.terms["inner.dice"], dice.detach())
    (slope,) = torch.autograd.grad(truth, scores)
    out.backward()
    torch.testing.assert_close(scores.grad, slope)
    torch.testing.assert_close(criterion.log_variances.grad, 0.5 - (-s).exp() * values.detach())
    assert criterion.weights()["inner.dice"] == pytest.approx(torch.exp(-s[1]).item())
    assert out.total.item() == pytest.approx(sum(value.item() for value in out.weighted.values()))


def test_compiled_code_trains_them_too() -> None:
    criterion, scores, labels = made()
    out = torch.compile(criterion, backend="aot_eager", fullgraph=True)(scores, labels)
    out.total.backward()
    compiled = criterion.log_variances.grad.clone()
    criterion.log_variances.grad = None
    criterion(scores, labels).backward()
    torch.testing.assert_close(compiled, criterion.log_variances.grad)
    torch._dynamo.reset()


def test_they_settle_where_the_formula_says() -> None:
    criterion, scores, labels = made()
    optimizer = torch.optim.SGD(criterion.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        out = criterion(scores.detach(), labels)
        out.backward()
        optimizer.step()
    for name, weight in criterion.weights().items():
        assert weight * out.terms[name].item() * (0.5 if "." in name else 1) == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(lf.LossError, match="UncertaintyWeights: criterion"):
        lf.UncertaintyWeights(lf.DiceLoss())  # type: ignore[arg-type]


def test_a_start_that_is_no_number() -> None:
    for start in (float("nan"), "0", True):
        with pytest.raises(lf.LossError, match="UncertaintyWeights: start must be a number"):
            lf.UncertaintyWeights(lf.LossSet(ce=lf.CrossEntropyLoss()), start=start)  # type: ignore[arg-type]
