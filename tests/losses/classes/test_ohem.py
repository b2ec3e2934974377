"""OHEM keeps exactly the pixels its definition names, judged by the map's support against a definition in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate, same_bits

engines = pytest.mark.parametrize("engine", ENGINES)


def ohem(engine: str, **options: Any) -> lf.OhemCrossEntropyLoss:
    return lf.OhemCrossEntropyLoss(engine=engine, **options)


def losses_of(data: Data, link: str) -> Tensor:
    """-log p of each pixel's label, as torch has it in float64; ignored pixels get that of class 0."""
    scores = data.pred.double()
    logs = scores.log_softmax(1) if link == "softmax" else scores.clamp_min(1e-12).log()
    return -logs.gather(1, data.truth.clamp_min(0).unsqueeze(1)).squeeze(1)


def kept(data: Data, *, link: str = "softmax", **options: Any) -> np.ndarray[Any, Any]:
    """Pixel by pixel: hard if p < thresh, or if fewer than k counted pixels cost more."""
    costs, p = losses_of(data, link).numpy(), losses_of(data, link).neg().exp().numpy()
    if link == "identity":
        p = data.pred.double().gather(1, data.truth.clamp_min(0).unsqueeze(1)).squeeze(1).numpy()
    counted = (data.truth != -100).numpy()
    if data.weight is not None:
        counted = counted & (data.weight != 0).numpy()
    result = np.zeros(counted.shape, bool)
    ratio = options.get("top_k_ratio")
    for index in np.ndindex(*counted.shape):
        rivals = counted[index[0]] if options.get("per_image") else counted
        among = costs[index[0]] if options.get("per_image") else costs
        k = options.get("min_kept", 100_000) if ratio is None else math.ceil(ratio * rivals.sum())
        harder = (among[rivals] > costs[index]).sum()
        result[index] = counted[index] and (harder < k or (ratio is None and p[index] < options.get("thresh", 0.7)))
    return result


def assert_keeps(engine: str, data: Data, **options: Any) -> None:
    """The map is -log p times the weights at the definition's pixels and 0 elsewhere, its gradient likewise; so is the mean."""
    link = options.get("link", "softmax")
    support = torch.from_numpy(kept(data, **options))
    costs = losses_of(data, link)
    v = torch.tensor(options.get("class_weight", [1.0] * data.pred.shape[1]), dtype=torch.float64)[data.truth.clamp_min(0)]
    w = v if data.weight is None else v * data.weight
    values, slope = evaluate(ohem(engine, reduction="none", **options), data)
    double = data.pred.dtype == torch.float64
    close(values.double(), torch.where(support, w * costs, 0.0), *((1e-12, 1e-12) if double else (1e-6, 1e-6)))
    assert torch.equal(slope.any(1) & (costs > 1e-6), support & (w * costs > 1e-6))
    if not options.get("per_image"):
        total, share = torch.where(support, w * costs, 0.0).sum(), torch.where(support, w, 0.0).sum()
        result, gradient = evaluate(ohem(engine, **options), data)
        close(result.double(), total / share if share else torch.zeros((), dtype=torch.float64), 1e-6, 1e-6)
        assert torch.equal(gradient.any(1) & (costs > 1e-6), support & (w * costs > 1e-6))


CHOICES: list[dict[str, Any]] = [
    {},
    {"thresh": 0.2, "min_kept": 0},
    {"thresh": 1e-6, "min_kept": 0},
    {"thresh": 1.0, "min_kept": 0},
    {"thresh": 0.1, "min_kept": 7},
    {"thresh": 0.1, "min_kept": 1},
    {"thresh": 0.0, "min_kept": 40, "per_image": True},
    {"thresh": 0.3, "min_kept": 3, "per_image": True, "class_weight": [0.5, 2.0, 1.0, 3.0]},
    {"top_k_ratio": 0.1},
    {"top_k_ratio": 1.0},
    {"top_k_ratio": 1e-9},
    {"top_k_ratio": 0.3, "per_image": True},
    {"thresh": 0.4, "min_kept": 5, "link": "identity"},
    {"top_k_ratio": 0.25, "link": "identity", "class_weight": [0.5, 2.0, 1.0, 3.0]},
]


@engines
@pytest.mark.parametrize("options", CHOICES, ids=str)
@pytest.mark.parametrize("weight", [None, "float", "some zero", "mask"])
def test_the_pixels_of_the_definition(engine: str, options: dict[str, Any], weight: str | None) -> None:
    for seed, space in enumerate(((31,), (5, 7), (2, 3, 4))):
        g = torch.Generator().manual_seed(seed)
        scores = 2 * torch.randn(3, 4, *space, generator=g, dtype=torch.float64)
        labels = torch.randint(0, 4, (3, *space), generator=g)
        labels[torch.rand(labels.shape, generator=g) < 0.2] = -100
        labels[2] = -100 if seed == 1 else labels[2]
        given_weight = {
            "float": 0.25 + torch.rand(labels.shape, generator=g),
            "some zero": torch.rand(labels.shape, generator=g).round(decimals=1) * (torch.rand(labels.shape, generator=g) < 0.6),
            "mask": torch.rand(labels.shape, generator=g) < 0.5,
        }.get(weight or "")
        data = Data(scores.softmax(1) if options.get("link") == "identity" else scores, labels, given_weight)
        assert_keeps(engine, data, **options)


def line(p: list[float], dtype: torch.dtype = torch.float64) -> Data:
    """One image of two classes, p the probability of the label, which is class 0."""
    column = torch.tensor(p, dtype=dtype)
    return Data(torch.stack([column, 1 - column])[None], torch.zeros(1, len(p), dtype=torch.int64))


def support(loss: lf.OhemCrossEntropyLoss, data: Data) -> list[int]:
    loss.reduction = "none"
    return loss(*data.call)[0].nonzero().flatten().tolist()


@engines
@pytest.mark.parametrize("dtype_name", ["float64", "float32", "float16"])
def test_ties_at_the_kth_are_all_kept(engine: str, dtype_name: str) -> None:
    data = line([0.5, 0.25, 0.5, 0.75, 0.5, 0.875], getattr(torch, dtype_name))
    for k, expected in {1: [1], 2: [0, 1, 2, 4], 3: [0, 1, 2, 4], 4: [0, 1, 2, 4], 5: [0, 1, 2, 3, 4], 6: [*range(6)]}.items():
        assert support(ohem(engine, thresh=0.0, min_kept=k, link="identity"), data) == expected
        assert support(ohem(engine, top_k_ratio=k / 6, link="identity"), data) == expected
        assert support(ohem(engine, top_k_ratio=(k - 0.5) / 6, link="identity"), data) == expected, "ceil"


@engines
def test_the_threshold_is_strict(engine: str) -> None:
    """All probabilities equal to it: none is below. What min_kept asks for is kept all the same, and with it all ties."""
    data = line([0.5] * 6)
    assert support(ohem(engine, thresh=0.5, min_kept=0, link="identity"), data) == []
    assert support(ohem(engine, thresh=0.5 + 1e-12, min_kept=0, link="identity"), data) == [*range(6)]
    assert support(ohem(engine, thresh=0.5, min_kept=1, link="identity"), data) == [*range(6)]
    result, gradient = evaluate(ohem(engine, thresh=0.5, min_kept=0, link="identity"), data)
    assert result == 0 and not gradient.any()


@engines
def test_as_many_as_there_are(engine: str) -> None:
    """P <= min_kept keeps every pixel, the easiest too: also where all are right and certain."""
    data = line([0.5, 0.25, 0.875])
    for k in (3, 4, 100_000, 2**62):
        assert support(ohem(engine, thresh=0.0, min_kept=k, link="identity"), data) == [0, 1, 2]
    easy = Data(torch.tensor([[[50.0, 60.0], [-50.0, -60.0]]]), torch.zeros(1, 2, dtype=torch.int64))
    result, _ = evaluate(ohem(engine, min_kept=2), easy)
    assert torch.isfinite(result) and result < 1e-30
    assert ohem(engine, thresh=0.7, min_kept=0)(*easy.call) == 0


@engines
@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_all_ignored(engine: str, options: dict[str, Any]) -> None:
    for reduction in ("mean", "sum", "none"):
        scores = torch.rand(2, 4, 3, 5)
        for labels, weight in ((torch.full((2, 3, 5), -100), None), (torch.zeros(2, 3, 5).long(), torch.zeros(2, 3, 5))):
            result, gradient = evaluate(ohem(engine, **options | {"reduction": reduction}), Data(scores, labels, weight))
            assert not result.any() and not gradient.any() and torch.isfinite(gradient).all()


@engines
@pytest.mark.parametrize("dtype_name", ["float64", "float32", "float16"])
def test_order_where_p_underflows(engine: str, dtype_name: str) -> None:
    """p is 0 at every one of them: they are told apart by -log p."""
    z = torch.tensor([1e4, 2e3, 5e3, 3e3, -1e4, 4e3], dtype=getattr(torch, dtype_name))
    data = Data(torch.stack([-z, z])[None], torch.zeros(1, 6, dtype=torch.int64))
    order = [0, 2, 5, 3, 1, 4]
    for k in range(1, 7):
        expected = sorted(i for i in order[:k] if i != 4)  # the sixth costs exactly nothing, kept or not
        assert support(ohem(engine, thresh=0.0, min_kept=k), data) == expected
    assert support(ohem(engine, thresh=1e-30, min_kept=0), data) == [0, 1, 2, 3, 5]


@engines
def test_weights_take_no_part_in_the_selection(engine: str) -> None:
    """Neither a pixel's nor its class's, but for weight 0, which does not count."""
    data = line([0.1, 0.2, 0.3, 0.4, 0.5])
    heavy = torch.tensor([[0.01, 9.0, 9.0, 9.0, 9.0]])
    options: dict[str, Any] = {"thresh": 0.0, "min_kept": 2, "link": "identity"}
    assert support(ohem(engine, **options), Data(data.pred, data.truth, heavy)) == [0, 1]
    assert support(ohem(engine, class_weight=[0.001, 5.0], **options), data) == [0, 1]
    absent = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]])
    assert support(ohem(engine, **options), Data(data.pred, data.truth, absent)) == [1, 2]
    assert support(ohem(engine, top_k_ratio=0.5, link="identity"), Data(data.pred, data.truth, absent)) == [1, 2]
    assert support(ohem(engine, thresh=0.35, min_kept=0, link="identity"), Data(data.pred, data.truth, absent != 0)) == [1, 2]


@engines
def test_per_image_each_keeps_its_own(engine: str) -> None:
    p = torch.tensor([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], dtype=torch.float64)
    data = Data(torch.stack([p, 1 - p], 1), torch.zeros(2, 3, dtype=torch.int64))
    options: dict[str, Any] = {"thresh": 0.0, "min_kept": 2, "link": "identity", "reduction": "none"}
    assert (ohem(engine, **options)(*data.call) != 0).tolist() == [[True, True, False], [False, False, False]]
    assert (ohem(engine, per_image=True, **options)(*data.call) != 0).tolist() == [[True, True, False]] * 2
    mean = ohem(engine, **options | {"reduction": "mean", "per_image": True})(*data.call)
    close(mean, -(p[:, :2].log().mean(1)).mean(), 1e-12, 0)


@engines
def test_the_value_by_hand(engine: str) -> None:
    """Σ w v (-log p) / Σ w v over the two hardest, of which one is worth twice."""
    data = line([0.5, 0.25, 0.75])
    weight = torch.tensor([[2.0, 1.0, 5.0]])
    loss = ohem(engine, thresh=0.0, min_kept=2, link="identity")
    expected = (2 * math.log(2) + math.log(4)) / 3
    assert float(loss(data.pred, data.truth, weight)) == pytest.approx(expected, abs=1e-12)


@engines
def test_a_map_of_a_large_image_keeps_what_sorting_keeps(engine: str) -> None:
    """A hundred thousand pixels, k in the middle, at both resolutions."""
    scores, coarse = torch.randn(2, 5, 200, 250), torch.randn(2, 5, 50, 125)
    labels = torch.randint(0, 5, (2, 200, 250))
    for logits in (scores, coarse):
        full = lf.CrossEntropyLoss(engine=engine, reduction="none")(logits, labels)
        for k in (1, 1000, 50_000, 99_999):
            values = ohem(engine, thresh=0.0, min_kept=k, reduction="none")(logits, labels)
            bound = full.flatten().kthvalue(full.numel() - k + 1).values
            same_bits(values, torch.where(full >= bound, full, 0.0))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Data, dict[str, Any]]:
    """Any shape; scores of a few values, so that ties are common, or of any."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    space = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    scores = draw(st.sampled_from([0.5, 3.0, 30.0])) * torch.randn(batch, classes, *space, generator=g, dtype=torch.float64)
    scores = scores.round() if draw(st.booleans()) else scores
    labels = torch.randint(0, classes, (batch, *space), generator=g)
    labels[torch.rand(labels.shape, generator=g) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -100
    weight = torch.rand(labels.shape, generator=g) * (torch.rand(labels.shape, generator=g) < 0.7) if draw(st.booleans()) else None
    options: dict[str, Any] = {"per_image": draw(st.booleans())}
    if draw(st.booleans()):
        options["top_k_ratio"] = draw(st.floats(0.001, 1.0) | st.sampled_from([0.1, 0.25, 0.5, 1.0]))
    else:
        options |= {"thresh": draw(st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0])), "min_kept": draw(st.integers(0, 50))}
        options["min_kept"] += options["thresh"] == 0
    return Data(scores, labels, weight), options


@settings(max_examples=150)
@given(problems())
def test_any_shape_and_choice(problem: tuple[Data, dict[str, Any]]) -> None:
    data, options = problem
    for engine in ENGINES:
        values = ohem(engine, reduction="none", **options)(*data.call)
        costs = losses_of(data, "softmax")
        w = torch.ones(data.truth.shape, dtype=torch.float64) if data.weight is None else data.weight.double()
        expected = torch.where(torch.from_numpy(kept(data, **options)), w * costs, 0.0)
        close(values, expected, 1e-10, 1e-12)
