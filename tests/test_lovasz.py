"""Lovász-Softmax: the histogram against sorting, its bounds, its gradient, and what adds up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.cases import ENGINES, close, same_bits

engines = pytest.mark.parametrize("engine", ENGINES)


def scene(kind: str, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Logits and labels of one kind."""
    size = (24, 40)
    noise = torch.randn(2, classes, *size, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, *size))
    if kind == "trained":
        noise = 8 * functional.interpolate(torch.randn(2, classes, 4, 6, dtype=torch.float64), size, mode="bilinear") + noise / 10
        labels = torch.where(torch.rand(2, *size) < 0.05, labels, noise.argmax(1))
    elif kind == "constant":
        noise = torch.zeros_like(noise)
    elif kind == "one pixel":
        noise, labels = noise[:1, :, :1, :1], labels[:1, :1, :1]
    return noise, labels


@engines
@pytest.mark.parametrize("kind", ["random", "trained", "constant", "one pixel"])
@pytest.mark.parametrize("classes", [1, 2, 7, 150])
@pytest.mark.parametrize("which", ["present", "all"])
def test_within_half_a_bin_on_natural_scenes(engine: str, kind: str, classes: int, which: str) -> None:
    logits, labels = scene(kind, classes)
    exact = lf.LovaszLoss(classes=which, exact=True)(logits, labels)
    value = lf.LovaszLoss(classes=which, engine=engine)(logits, labels)
    lower, upper = lf.functional.lovasz_bounds(logits, labels, classes=which, engine=engine)
    assert abs(value - exact) <= 1 / (2 * 4096)
    assert lower - 1e-12 <= exact <= upper + 1e-12 and lower <= value <= upper
    assert upper - lower <= 1 / 4096 + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_within_a_bin_always(data: st.DataObject) -> None:
    """Few pixels, few bins, errors on edges and in clusters: what a histogram likes least."""
    count = data.draw(st.integers(1, 12))
    bins = data.draw(st.sampled_from([2, 3, 10, 4096]))
    place = st.one_of(st.floats(0, 1), st.integers(0, bins).map(lambda k: k / bins), st.just(0.5 / bins))
    p = torch.tensor(data.draw(st.lists(place, min_size=count, max_size=count)), dtype=torch.float64)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))[None]
    scores = torch.stack([1 - p, p])[None]
    exact = lf.LovaszLoss(link="identity", exact=True)(scores, labels)
    for engine in ENGINES:
        value = lf.LovaszLoss(link="identity", bins=bins, engine=engine)(scores, labels)
        assert abs(value - exact) <= 1 / bins + 1e-9


@engines
@pytest.mark.parametrize("kind_of_float", [torch.float64, torch.float32, torch.float16])
def test_a_perfect_prediction_costs_nothing(engine: str, kind_of_float: torch.dtype) -> None:
    labels = torch.randint(0, 5, (2, 9, 11))
    logits = (2e4 * functional.one_hot(labels, 5).movedim(-1, 1) - 1e4).to(kind_of_float).requires_grad_()
    value = lf.LovaszLoss(engine=engine)(logits, labels)
    assert value == 0
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() == 0


@engines
def test_gradcheck(engine: str) -> None:
    """Positions are rounded to 2^-24 of a bin, 1.5e-11: a step of 1e-6 sees that as a slope of 1.5e-5."""
    logits = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (1, 2, 3))
    loss = lf.LovaszLoss(engine=engine, classes="all")
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits, eps=1e-6, atol=5e-5)


@engines
@pytest.mark.parametrize("kind", ["random", "trained"])
def test_gradient_is_closer_to_the_exact_one_than_sorting_in_float32(engine: str, kind: str) -> None:
    """L1 distance; a float32 cumulative sum of foregrounds loses what counts keep."""
    logits, labels = scene(kind)

    def gradient(loss: lf.LovaszLoss, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(x, labels), x)
        return slope.double()

    exact = gradient(lf.LovaszLoss(exact=True), logits)
    distance = (gradient(lf.LovaszLoss(engine=engine), logits) - exact).abs().sum() / exact.abs().sum()
    assert distance < 2e-3


@engines
def test_folds_of_parts_add_up_to_the_same_bits(engine: str) -> None:
    logits, labels = scene("random")
    weight = torch.rand(labels.shape)
    loss = lf.LovaszLoss(engine=engine)
    needs = loss.needs()
    whole = needs.collect("test", logits, labels, weight).sum_images()
    rows = [slice(0, 7), slice(7, 24)]
    parts = [needs.collect("test", logits[:, :, r], labels[:, r], weight[:, r]).sum_images() for r in rows]
    same_bits(whole.table, (parts[0] + parts[1]).table)
    same_bits(whole.table, needs.collect("test", logits.flip(2), labels.flip(1), weight.flip(1)).sum_images().table)


@engines
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_shows(engine: str, bad: float) -> None:
    logits, labels = scene("random")
    logits[0, 2, 3, 4] = bad
    assert lf.LovaszLoss(engine=engine)(logits, labels).isnan()
    labels[0, 3, 4] = -100
    assert lf.LovaszLoss(engine=engine)(logits, labels).isfinite()


@engines
@pytest.mark.parametrize("options", [{}, {"bins": 100}, {"per_image": True, "classes": [0, 3]}], ids=str)
def test_weights(engine: str, options: dict[str, Any]) -> None:
    logits, labels = scene("random")
    loss = lf.LovaszLoss(engine=engine, **options)
    twice = torch.ones(labels.shape)
    twice[:, :5] = 2
    doubled = loss(torch.cat([logits, logits[:, :, :5]], 2), torch.cat([labels, labels[:, :5]], 1))
    close(loss(logits, labels, twice), doubled)
    with pytest.raises(lf.LossError, match="weight must be without a gradient"):
        loss(logits, labels, twice.requires_grad_())


@engines
def test_probabilities_beyond_the_unit_interval_are_clamped(engine: str) -> None:
    p = torch.tensor([[[1.5, 0.25], [-0.5, 0.75]]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 0]])
    loss = lf.LovaszLoss(link="identity", engine=engine)
    value = loss(p, labels)
    close(value, loss(p.detach().clamp(0, 1), labels))
    (gradient,) = torch.autograd.grad(value, p)
    assert gradient[0, :, 0].abs().max() == 0 and gradient[0, 0, 1] != 0


def test_exact_sorts_in_plain_pytorch_only() -> None:
    with pytest.raises(lf.LossError, match="exact=True, which sorts"):
        lf.LovaszLoss(exact=True, engine="cpp")
    with pytest.raises(lf.LossError, match="classes"):
        lf.LovaszLoss(classes=[0, 9])(torch.randn(1, 3, 4), torch.zeros(1, 4, dtype=torch.long))
