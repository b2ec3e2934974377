"""Lovász from a histogram beside the exact one: how near, where exactly equal, and what its gradient is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.cases import ENGINES, Case, Data, close, evaluate, same_bits

engines = pytest.mark.parametrize("engine", ENGINES)
BOUND = 1 / 4096
ROUNDING = 2.0**-24  # of float32, in which the errors are computed


def exact(data: Data, **options: Any) -> float:
    return float(lf.LovaszLoss(exact=True, **options)(data.scores.double(), data.labels, data.weight))


def deviation(data: Data, **options: Any) -> float:
    """The largest distance from the exact value over the engines."""
    truth = exact(data, **options)
    return max(abs(float(lf.LovaszLoss(engine=engine, **options)(*data.call)) - truth) for engine in ENGINES)


NATURAL = (
    "random",
    "confident",
    "wrong",
    "smooth",
    "constant",
    "a few values",
    "perfect",
    "one pixel",
    "one class",
    "two classes",
    "150 classes",
    "rare",
)


def natural(kind: str, seed: int = 0) -> Data:
    """Logits and labels as training meets them."""
    g = torch.Generator().manual_seed(seed)
    classes = {"one class": 1, "two classes": 2, "150 classes": 150}.get(kind, 6)
    size = (1, 1) if kind == "one pixel" else (48, 64)
    regions = torch.randn(2, classes, 4, 5, generator=g)
    field = functional.interpolate(regions, size, mode="bicubic") + 0.05 * torch.randn(2, classes, *size, generator=g)
    labels = field.argmax(1)
    noise = torch.randn(2, classes, *size, generator=g)
    hot = functional.one_hot(labels, classes).movedim(-1, 1).float()
    logits = {
        "confident": 12 * field + noise,
        "wrong": -8 * field,
        "smooth": functional.avg_pool2d(20 * field + 6 * noise, 5, 1, 2) if size[0] > 1 else noise,
        "constant": torch.zeros_like(noise),
        "a few values": (2 * noise).round(),
        "perfect": 2e4 * hot - 1e4,
        "rare": 6 * field + noise,
    }.get(kind, 2 * noise)
    if kind == "rare":
        labels = torch.where(labels < 2, labels, torch.where(torch.rand(labels.shape, generator=g) < 0.002, 2, 0))
    if kind not in ("perfect", "one pixel"):
        labels[torch.rand(labels.shape, generator=g) < 0.1] = -100
    return Data(logits, labels)


@pytest.mark.parametrize("options", [{}, {"classes": "all"}, {"per_image": True}, {"classes": [0]}], ids=str)
@pytest.mark.parametrize("kind", NATURAL)
def test_half_a_bin_from_the_exact_value_on_natural_data(kind: str, options: dict[str, Any]) -> None:
    for seed in range(3):
        assert deviation(natural(kind, seed), **options) <= BOUND / 2


@pytest.mark.parametrize("kind", NATURAL)
def test_bounds_bracket_the_exact_value(kind: str) -> None:
    """And the histogram's value is between them as well."""
    data = natural(kind)
    for options in ({}, {"bins": 16}, {"classes": "all", "per_image": True}, {"loss_weight": 0.5}, {"reduction": "sum"}):
        truth = exact(data, **options)
        for engine in ENGINES:
            lower, upper = lf.functional.lovasz_bounds(*data.call, engine=engine, **options)
            value = lf.LovaszLoss(engine=engine, **options)(*data.call)
            rounding = 8 * ROUNDING * max(1.0, truth)
            assert lower - rounding <= truth <= upper + rounding
            assert lower - rounding <= value <= upper + rounding
            terms = 2 * data.scores.shape[1] if "reduction" in options else 1
            assert upper - lower <= terms / options.get("bins", 4096) + rounding
            assert not lower.requires_grad and lower.shape == upper.shape == value.shape


def test_bounds_of_each_class_and_image() -> None:
    data = natural("random")
    lower, upper = lf.functional.lovasz_bounds(*data.call, reduction="none", per_image=True, bins=64)
    truth = lf.LovaszLoss(exact=True, reduction="none", per_image=True)(*data.call)
    assert lower.shape == upper.shape == (2, 6)
    assert (lower <= truth + ROUNDING).all() and (truth <= upper + ROUNDING).all() and (upper - lower > 0).any()
    with pytest.raises(lf.LossError, match="exact"):
        lf.functional.lovasz_bounds(*data.call, exact=True)
    with pytest.raises(lf.LossError, match="lovasz_bounds.*labels"):
        lf.functional.lovasz_bounds(data.scores, data.labels.float())


@st.composite
def tiny(draw: st.DrawFn) -> tuple[Data, dict[str, Any]]:
    """A few pixels with any errors: equal ones, ones at edges of bins and beside them, 0 and 1."""
    bins = draw(st.sampled_from([2, 3, 16, 100, 4096]))
    edge = st.integers(0, bins).map(lambda k: k / bins)
    beside = st.tuples(edge, st.sampled_from([-1e-3, -1e-9, 1e-9, 1e-3])).map(lambda t: min(max(t[0] + t[1] / bins, 0.0), 1.0))
    probability = edge | beside | st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
    pixels, classes = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    p = torch.tensor([[draw(probability) for _ in range(pixels)] for _ in range(classes)], dtype=torch.float64)
    labels = torch.tensor([[draw(st.integers(0, classes - 1)) for _ in range(pixels)]])
    options = {"bins": bins, "classes": draw(st.sampled_from(["present", "all", [0]])), "link": "identity"}
    weight = torch.tensor([[draw(st.sampled_from([0.0, 0.25, 1.0, 7.0])) for _ in range(pixels)]])
    return Data(p[None], labels, weight if draw(st.booleans()) else None), options


@settings(max_examples=400)
@given(tiny())
def test_one_bin_from_the_exact_value_always(problem: tuple[Data, dict[str, Any]]) -> None:
    data, options = problem
    truth = exact(data, **options)
    for engine in ENGINES:
        value = float(lf.LovaszLoss(engine=engine, **options)(*data.call))
        lower, upper = (float(x) for x in lf.functional.lovasz_bounds(*data.call, engine=engine, **options))
        assert abs(value - truth) <= 1 / options["bins"] + 1e-9
        assert lower - 1e-9 <= truth <= upper + 1e-9 and upper - lower <= 1 / options["bins"] + 1e-9
        assert -1e-9 <= value <= 1 + 1e-9


@engines
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_perfect_prediction_costs_exactly_nothing(engine: str, dtype: torch.dtype) -> None:
    labels = torch.randint(0, 7, (2, 33, 29))
    hot = functional.one_hot(labels, 7).movedim(-1, 1).to(dtype)
    for scores, link in ((2e4 * hot - 1e4, "softmax"), (hot, "identity")):
        for options in ({}, {"classes": "all"}, {"per_image": True}, {"bins": 3}, {"exact": True}):
            if engine != "eager" and "exact" in options:
                continue
            loss = lf.LovaszLoss(link=link, engine=engine, **options)
            result, gradient = evaluate(loss, Data(scores.to(dtype), labels))
            assert result == 0 and torch.isfinite(gradient).all()
            assert link == "identity" or not gradient.any()


@engines
def test_a_perfect_prediction_at_label_resolution(engine: str) -> None:
    """Nodes of one class each, the labels cut halfway between them."""
    coarse = torch.randint(0, 4, (1, 5, 6))
    hot = functional.one_hot(coarse, 4).movedim(-1, 1).float()
    fine = functional.interpolate(hot, (20, 24), mode="bilinear").topk(2, 1)
    labels = torch.where(fine.values[:, 0] > fine.values[:, 1], fine.indices[:, 0], -100)  # where classes tie nobody is right
    assert (labels >= 0).sum() > 400
    assert lf.LovaszLoss(engine=engine)(2e4 * hot - 1e4, labels) <= 1e-6


def sorted_in_float32(data: Data) -> Tensor:
    """The gradient of the reference that everyone uses: float32, and differences of a cumulative sum."""
    scores = data.scores.detach().float().requires_grad_()
    p = scores.softmax(1).movedim(1, -1)[data.labels >= 0]
    labels = data.labels[data.labels >= 0]
    losses = []
    for c in labels.unique():
        foreground = (labels == c).float()
        errors, order = (foreground - p[:, c]).abs().sort(descending=True)
        hits = foreground[order]
        jaccard = 1 - (hits.sum() - hits.cumsum(0)) / (hits.sum() + (1 - hits).cumsum(0))
        losses.append(errors @ jaccard.diff(prepend=jaccard.new_zeros(1)))
    (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), scores)
    return gradient


L1 = {"random": 0.1, "confident": 0.1, "smooth": 0.1, "wrong": 0.1, "150 classes": 0.1, "rare": 0.1}


@pytest.mark.parametrize("kind", list(L1))
def test_the_gradient_is_near_the_exact_one(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Relative L1 distance, which is what is left of the order of errors within a bin."""
    data = natural(kind)
    _, truth = evaluate(lf.LovaszLoss(exact=True), data.to(torch.float64))
    distances = {"float32 sort": float((sorted_in_float32(data) - truth).abs().sum() / truth.abs().sum())}
    for engine in ENGINES:
        _, gradient = evaluate(lf.LovaszLoss(engine=engine), data)
        distances[engine] = float((gradient - truth).abs().sum() / truth.abs().sum())
    with capsys.disabled():
        print(f"\nL1 distance of the Lovász gradient ({kind}): " + ", ".join(f"{k} {v:.2e}" for k, v in distances.items()))
    assert max(distances[engine] for engine in ENGINES) <= L1[kind]
