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
from lossfold.folds.histogram import Bins
from lossfold.losses.classes.lovasz import bin_edges
from tests import internals
from tests.contract.case import ENGINES, Data, close, evaluate, same_bits
from tests.folds.label.cases import LabelCase

engines = pytest.mark.parametrize("engine", ENGINES)
BOUND = 1 / 4096
ROUNDING = 2.0**-24  # of float32, in which the errors are computed


def exact(data: Data, **options: Any) -> float:
    return float(lf.LovaszLoss(exact=True, **options)(data.pred.double(), data.truth, data.weight))


def deviation(data: Data, **options: Any) -> float:
    """The largest distance from the exact value over the engines."""
    truth = exact(data, **options)
    return max(abs(float(lf.LovaszLoss(engine=engine, **{"exact": False, **options})(*data.call)) - truth) for engine in ENGINES)


NATURAL = (
    "random",
    "confident",
    "wrong",
    "smooth",
    "constant",
    "a few values",
    "perfect",
    "one pixel",
    "two classes",
    "150 classes",
    "rare",
)


def natural(kind: str, seed: int = 0) -> Data:
    """Logits and labels as training meets them."""
    g = torch.Generator().manual_seed(seed)
    classes = {"two classes": 2, "150 classes": 150}.get(kind, 6)
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
            value = lf.LovaszLoss(engine=engine, **{"exact": False, **options})(*data.call)
            rounding = 8 * ROUNDING * max(1.0, truth)
            assert lower - rounding <= truth <= upper + rounding
            assert lower - rounding <= value <= upper + rounding
            terms = 2 * data.pred.shape[1] if "reduction" in options else 1
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
    with pytest.raises(lf.LossError, match=r"lovasz_bounds.*labels"):
        lf.functional.lovasz_bounds(data.pred, data.truth.float())


@st.composite
def tiny(draw: st.DrawFn) -> tuple[Data, dict[str, Any]]:
    """A few pixels with any errors: equal ones, ones at edges of bins and beside them, 0 and 1."""
    bins = draw(st.sampled_from([2, 3, 16, 100, 4096]))
    edge = st.integers(0, bins).map(lambda k: k / bins)
    beside = st.tuples(edge, st.sampled_from([-1e-3, -1e-9, 1e-9, 1e-3])).map(lambda t: min(max(t[0] + t[1] / bins, 0.0), 1.0))
    probability = edge | beside | st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
    pixels, classes = draw(st.integers(1, 12)), draw(st.integers(2, 3))
    p = torch.tensor([[draw(probability) for _ in range(pixels)] for _ in range(classes)], dtype=torch.float64)
    labels = torch.tensor([[draw(st.integers(0, classes - 1)) for _ in range(pixels)]])
    options = {"bins": bins, "classes": draw(st.sampled_from(["present", "all", [0]])), "link": "identity"}
    weight = torch.tensor([[draw(st.sampled_from([0.0, 0.25, 1.0, 7.0])) for _ in range(pixels)]])
    return Data(p[None], labels, weight if draw(st.booleans()) else None), options


@settings(max_examples=150)
@given(tiny())
def test_one_bin_from_the_exact_value_always(problem: tuple[Data, dict[str, Any]]) -> None:
    data, options = problem
    truth = exact(data, **options)
    for engine in ENGINES:
        value = float(lf.LovaszLoss(engine=engine, **{"exact": False, **options})(*data.call))
        lower, upper = (float(x) for x in lf.functional.lovasz_bounds(*data.call, engine=engine, **options))
        assert abs(value - truth) <= 1 / options["bins"] + 1e-9
        assert lower - 1e-9 <= truth <= upper + 1e-9 and upper - lower <= 1 / options["bins"] + 1e-9
        assert -1e-9 <= value <= 1 + 1e-9


@engines
def test_a_perfect_prediction_costs_exactly_nothing(engine: str, dtype: torch.dtype) -> None:
    labels = torch.randint(0, 7, (2, 33, 29))
    hot = functional.one_hot(labels, 7).movedim(-1, 1).to(dtype)
    for scores, link in ((2e4 * hot - 1e4, "softmax"), (hot, "identity")):
        for options in ({}, {"classes": "all"}, {"per_image": True}, {"bins": 3}, {"exact": True}):
            if engine != "eager" and "exact" in options:
                continue
            loss = lf.LovaszLoss(link=link, engine=engine, **{"exact": False, **options})
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
    assert lf.LovaszLoss(engine=engine, exact=False)(2e4 * hot - 1e4, labels) <= 1e-6


def sorted_in_float32(data: Data) -> Tensor:
    """The gradient of the reference that everyone uses: float32, and differences of a cumulative sum."""
    scores = data.pred.detach().float().requires_grad_()
    p = scores.softmax(1).movedim(1, -1)[data.truth >= 0]
    labels = data.truth[data.truth >= 0]
    losses = []
    for c in labels.unique():
        foreground = (labels == c).float()
        errors, order = (foreground - p[:, c]).abs().sort(descending=True)
        hits = foreground[order]
        jaccard = 1 - (hits.sum() - hits.cumsum(0)) / (hits.sum() + (1 - hits).cumsum(0))
        losses.append(errors @ jaccard.diff(prepend=jaccard.new_zeros(1)))
    (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), scores)
    return gradient


L1 = {"random": 5e-4, "confident": 5e-4, "smooth": 5e-4, "rare": 1e-3, "150 classes": 1e-6, "wrong": 0.1}
"""Many confident mistakes share the last bins, and of 4096 bins few are used: the order within them is what is lost."""


@pytest.mark.parametrize("kind", list(L1))
def test_the_gradient_is_near_the_exact_one(kind: str) -> None:
    """Relative L1 distances; `pytest -rP -k near_the_exact` prints them."""
    data = natural(kind)
    _, truth = evaluate(lf.LovaszLoss(exact=True), data.double())
    distances = {"float32 sort": float((sorted_in_float32(data) - truth).abs().sum() / truth.abs().sum())}
    for engine in ENGINES:
        _, gradient = evaluate(lf.LovaszLoss(engine=engine, exact=False), data)
        distances[engine] = float((gradient - truth).abs().sum() / truth.abs().sum())
    print(f"{kind}: " + ", ".join(f"{name} {distance:.2e}" for name, distance in distances.items()))
    assert max(distances[engine] for engine in ENGINES) <= L1[kind]


def away_from_edges(data: Data, bins: int, step: float) -> Data:
    """The pixels near an edge of a bin ignored, over which a finite difference would jump."""
    return LabelCase("LovaszLoss", {"bins": bins}).settled(data, distance=step)


@engines
@pytest.mark.parametrize("bins", [4096, 64, 2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck(engine: str, bins: int, reduction: str) -> None:
    """With steps of a sixteenth of a bin: a value's own steps are 2^-24 of one."""
    step = min(1 / 16 / bins, 1e-3)
    loss = lf.LovaszLoss(engine=engine, exact=False, bins=bins, reduction=reduction, classes="all", class_weight=[1.0, 0.5, 2.0])
    scores = torch.randn(2, 3, 14, dtype=torch.float64)
    data = away_from_edges(Data(scores, torch.randint(0, 2, (2, 14)), 0.25 + torch.rand(2, 14)), bins, step).leaf()
    assert (data.truth >= 0).sum() >= 8
    assert torch.autograd.gradcheck(lambda x: loss(x, data.truth, data.weight), (data.pred,), eps=step)


@engines
def test_a_bin_of_its_own_has_the_exact_gradient(engine: str) -> None:
    """Where no two errors of a class share a bin, there is no order to average over."""
    scores = torch.randn(1, 3, 12, dtype=torch.float64)
    labels = torch.randint(0, 3, (1, 12))
    p = scores.softmax(1)[0]
    errors = torch.where(functional.one_hot(labels[0], 3).T == 1, 1 - p, p)
    assert all(len(row.mul(65536).long().unique()) == 12 for row in errors)
    ours = evaluate(lf.LovaszLoss(engine=engine, exact=False, bins=65536), Data(scores, labels))
    truth = evaluate(lf.LovaszLoss(exact=True), Data(scores, labels))
    close(ours[0], truth[0], 0, 1e-11)
    close(ours[1], truth[1], 1e-9, 1e-12)


@engines
def test_equal_errors_have_equal_gradients(engine: str) -> None:
    """Unlike a sort, which orders ties by their places: a constant prediction is pushed alike at every pixel of a class."""
    labels = torch.tensor([[0, 0, 1, 1, 1, 2, 0, 1]])
    _, gradient = evaluate(lf.LovaszLoss(engine=engine, exact=False), Data(torch.zeros(1, 3, 8, dtype=torch.float64), labels))
    for c in range(3):
        columns = gradient[0][:, labels[0] == c]
        close(columns, columns[:, :1].expand_as(columns))
    assert (gradient[0].gather(0, labels) < 0).all()


@engines
def test_probabilities_of_exactly_0_and_1_have_a_gradient(engine: str) -> None:
    """A network that is sure and wrong has most to learn, and 0 and 1 are inside [0, 1]."""
    p = torch.tensor([[[1.0, 0.0, 1.0, 0.3], [0.0, 1.0, 0.0, 0.7]]], dtype=torch.float64)
    for loss in (lf.LovaszLoss(link="identity", engine=engine, exact=False), lf.LovaszLoss(link="identity", exact=True)):
        _, gradient = evaluate(loss, Data(p, torch.tensor([[0, 1, 1, 0]])))
        assert gradient[0, 1, 2] < 0 < gradient[0, 0, 2], loss


@engines
def test_probabilities_just_outside_0_and_1_are_taken_into_it(engine: str) -> None:
    p = torch.tensor([[[-0.005, 1.005, 0.25, 1.01], [1.002, -0.01, 0.5, -0.002]]], dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 1]])
    for loss in (lf.LovaszLoss(link="identity", engine=engine, exact=False), lf.LovaszLoss(link="identity", exact=True)):
        result, gradient = evaluate(loss, Data(p, labels))
        truth, _ = evaluate(loss, Data(p.clamp(0, 1), labels))
        close(result, truth)
        outside = (p < 0) | (p > 1)
        assert not gradient[outside].any() and gradient[~outside].all(), loss


@engines
def test_which_classes_count(engine: str) -> None:
    """Class 2 is absent: it costs its largest probability, where it counts."""
    p = torch.tensor([[[0.75, 0.5, 0.25], [0.125, 0.25, 0.5], [0.125, 0.25, 0.25]]], dtype=torch.float64)
    labels = torch.tensor([[0, 0, 1]])
    one = {c: exact(Data(p, labels), link="identity", classes=[c]) for c in range(3)}
    assert one[2] == pytest.approx(0.25, abs=1e-12)
    for classes, members in (("present", [0, 1]), ("all", [0, 1, 2]), ([2], [2]), ([2, 0], [0, 2]), ((1,), [1])):
        loss = lf.LovaszLoss(link="identity", classes=classes, engine=engine, exact=False)
        close(loss(p, labels), torch.tensor(sum(one[c] for c in members) / len(members)).double(), 0, 1e-9)
        table = lf.LovaszLoss(link="identity", classes=classes, engine=engine, exact=False, reduction="none")(p, labels)
        close(table, torch.tensor([one[c] if c in members else 0.0 for c in range(3)], dtype=torch.float64), 0, 1e-9)


@engines
@pytest.mark.parametrize("bins", [4096, 7])
def test_folds_of_halves_add_up(engine: str, bins: int) -> None:
    """It does not matter how pixels are grouped: counts to the bit, positions but for the units of weights that each part has."""
    data = natural("random")
    weight = torch.rand(data.truth.shape)
    for per_image in (False, True):
        loss = lf.LovaszLoss(engine=engine, exact=False, bins=bins, per_image=per_image)
        whole, _ = internals.collected(loss, data.pred, data.truth, weight)
        for dim in (1, 2):
            cut = data.truth.shape[dim] // 3
            parts = [
                internals.collected(loss, *(t.narrow(t.ndim - 3 + dim, a, n) for t in (data.pred, data.truth, weight)))[0]
                for a, n in ((0, cut), (cut, data.truth.shape[dim] - cut))
            ]
            total = parts[0] + parts[1]
            same_bits(total.table[:, ::2], whole.table[:, ::2])
            close(total.table, whole.table)
            close(total.sums, whole.sums)
            assert not torch.equal(parts[0].table, whole.table)
    other, _ = internals.collected(lf.LovaszLoss(engine=engine, exact=False, bins=bins + 1), data.pred, data.truth, weight)
    with pytest.raises(lf.LossError, match="fold"):
        whole + other


@engines
def test_weights_that_require_a_gradient_are_refused(engine: str) -> None:
    data = natural("random")
    weight = torch.rand(data.truth.shape, requires_grad=True)
    for options in ({"engine": engine}, {"exact": True}):
        with pytest.raises(lf.LossError, match=r"weight.*detach"):
            lf.LovaszLoss(**options)(data.pred, data.truth, weight)
        assert torch.isfinite(lf.LovaszLoss(**options)(data.pred, data.truth, weight.detach()))


@engines
@pytest.mark.parametrize("where", ["logit", "probability", "weight"])
@pytest.mark.parametrize("classes", ["present", "all", [1]])
def test_nan_gives_nan(engine: str, where: str, classes: Any) -> None:
    """In one class's score of one pixel, whose label it is, or in one weight: of the classes that count, the value is NaN."""
    scores, labels, weight = torch.randn(1, 3, 8).softmax(1), torch.tensor([[0, 1, 1, 1, 2, 0, 2, 1]]), torch.ones(1, 8)
    (weight[0] if where == "weight" else scores[0, 1])[2] = torch.nan
    link = "softmax" if where == "logit" else "identity"
    for options in ({"engine": engine}, {"exact": True}):
        assert lf.LovaszLoss(link=link, classes=classes, **options)(scores, labels, weight).isnan(), options


@engines
def test_a_pixel_of_weight_two_is_there_twice(engine: str) -> None:
    data = natural("random")
    twice = torch.cat([data.pred.flatten(2), data.pred.flatten(2)[..., :700]], -1)
    labels = torch.cat([data.truth.flatten(1), data.truth.flatten(1)[..., :700]], -1)
    weight = torch.ones(2, 48 * 64)
    weight[:, :700] = 2
    loss = lf.LovaszLoss(engine=engine, exact=False)
    close(loss(data.pred.flatten(2), data.truth.flatten(1), weight), loss(twice, labels), 0, 2 * ROUNDING)


@pytest.mark.parametrize("count", [2, 100, 4096, 65535])
def test_edges_of_equal_bins(count: int) -> None:
    lower, width = bin_edges(Bins(count, False), torch.zeros((), dtype=torch.float64))
    assert lower.tolist() == [j / count for j in range(count)]
    assert width.tolist() == [1 / count] * count


@pytest.mark.parametrize("each", [1, 7, 256, 4095])
def test_edges_of_the_hinge_bins_are_patterns_of_one_and_an_error(each: int) -> None:
    lower, width = bin_edges(Bins(16 * each + 112, True, hinge=True), torch.zeros((), dtype=torch.float64))
    fine = [(2.0**o * (1 + j / each) - 1, 2.0**o / each) for o in range(16) for j in range(each)]
    rest = [(2.0**o - 1, 2.0**o) for o in range(16, 128)]
    assert list(zip(lower.tolist(), width.tolist(), strict=True)) == fine + rest
