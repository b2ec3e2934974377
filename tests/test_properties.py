"""Properties over random shapes, values and options."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.contract.truth import truth_of
from tests.folds.label.cases import LabelCase, as_scores

COMMON: dict[str, st.SearchStrategy[Any]] = {
    "link": st.sampled_from(["softmax", "identity"]),
    "reduction": st.sampled_from(["mean", "sum"]),
    "per_image": st.booleans(),
    "ignore_index": st.sampled_from([-100, 255, 0]),
}
OVERLAP: dict[str, st.SearchStrategy[Any]] = {
    "average": st.sampled_from(["macro", "micro"]),
    "smooth": st.just(0.0) | st.floats(1e-6, 10.0),
    "squared": st.booleans(),
    "log": st.booleans(),
    "absent": st.sampled_from(["skip", "count", "zero"]),
}
SPECIFIC: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "CrossEntropyLoss": {"label_smoothing": st.floats(0.0, 1.0)},
    "FocalLoss": {
        "gamma": st.floats(0.0, 5.0),
        "alpha": st.none() | st.floats(0.01, 2.0),
        "normalize": st.sampled_from(["pixels", "focal"]),
    },
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": st.floats(0.1, 2.0), "beta": st.floats(0.1, 2.0)},
    "GeneralizedDiceLoss": {
        "weighting": st.sampled_from(["square", "simple", "uniform"]),
        "absent": st.sampled_from(["skip", "count", "zero"]),
    },
    "LovaszLoss": {
        "classes": st.sampled_from(["present", "all"]),
        "bins": st.sampled_from([4096, 1000, 17]),
        "exact": st.just(False),
    },
    "OhemCrossEntropyLoss": {
        "thresh": st.sampled_from([1e-6, 0.3, 1.0]),
        "min_kept": st.integers(0, 20),
        "top_k_ratio": st.none() | st.floats(0.01, 1.0),
    },
}


@st.composite
def problems(draw: st.DrawFn) -> tuple[LabelCase, Data]:
    """A loss with options, and data of any shape, sparsity of labels, scale of logits and kind of weight."""
    name = draw(st.sampled_from(sorted(SPECIFIC)))
    options = {key: draw(strategy) for key, strategy in (COMMON | SPECIFIC[name]).items()}
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(2, 9))
    space = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    if draw(st.booleans()):
        options["class_weight"] = [draw(st.floats(0.1, 4.0)) for _ in range(classes)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    raw = draw(st.sampled_from([0.1, 2.0, 5.0])) * torch.randn(batch, classes, *space, generator=generator)
    labels = torch.randint(0, draw(st.integers(1, classes)), (batch, *space), generator=generator)
    ignored = torch.rand(labels.shape, generator=generator) < draw(st.sampled_from([0.0, 0.2, 0.9, 1.0]))
    labels[ignored] = options["ignore_index"]
    weight = draw(st.sampled_from(["none", "float", "mask"]))
    given_weight: Tensor | None = None
    if weight == "float":
        given_weight = (0.25 + torch.rand(labels.shape, generator=generator)).bfloat16().float()  # as histograms resolve them
    elif weight == "mask":
        given_weight = torch.rand(labels.shape, generator=generator) < 0.5
    scores = as_scores(raw.double(), options["link"])
    return LabelCase(name, options), Data(scores, labels, given_weight)


@settings(max_examples=150)
@given(problems())
def test_value_and_gradient(problem: tuple[LabelCase, Data]) -> None:
    """Every engine is plain PyTorch in float64, whatever the shapes, options and holes in the data."""
    case, data = problem
    truth, slope = truth_of(case, data)
    for engine in ENGINES:
        result, gradient = evaluate(case.build(engine=engine), data)
        close(result, truth, 1e-9, 1e-10, case.grain)
        close(gradient, slope, 1e-8, 1e-10)


@settings(max_examples=60)
@given(problems())
def test_values_of_each_pixel_or_class(problem: tuple[LabelCase, Data]) -> None:
    case, data = problem
    case = LabelCase(case.name, case.options | {"reduction": "none"})
    truth, slope = truth_of(case, data)
    for engine in ENGINES:
        result, gradient = evaluate(case.build(engine=engine), data)
        assert result.shape == truth.shape
        close(result, truth, 1e-9, 1e-10, case.grain)
        close(gradient, slope, 1e-8, 1e-10)


@settings(max_examples=60)
@given(problems())
def test_bounds(problem: tuple[LabelCase, Data]) -> None:
    """Overlap losses without a log and Lovász lie in [0, 1]; cross entropy and focal are not negative."""
    case, data = problem
    case = LabelCase(case.name, case.options | {"reduction": "mean", "log": False})
    if "log" not in SPECIFIC[case.name]:
        case.options.pop("log")
    result, _ = evaluate(case.build(), data)
    assert result >= -1e-12
    if case.name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss", "LovaszLoss"):
        assert result <= 1 + 1e-12


@settings(max_examples=60)
@given(problems(), st.integers(1, 4))
def test_repeating_the_batch_changes_no_mean(problem: tuple[LabelCase, Data], times: int) -> None:
    """Without a smoothing constant, and without a number of pixels to keep, a mean knows only proportions."""
    case, data = problem
    case = LabelCase(case.name, case.options | {"reduction": "mean"} | ({"min_kept": 0} if "min_kept" in case.options else {}))
    case.options.pop("top_k_ratio", None)  # it rounds up
    if "smooth" in case.options:
        case.options["smooth"] = 0.0
    weight = None if data.weight is None else data.weight.repeat(times, *[1] * (data.truth.ndim - 1))
    scores = data.pred.repeat(times, *[1] * (data.pred.ndim - 1))
    labels = data.truth.repeat(times, *[1] * (data.truth.ndim - 1))
    once, _ = evaluate(case.build(), data)
    often, _ = evaluate(case.build(), Data(scores, labels, weight))
    close(often, once, 1e-9, 1e-10)


@settings(max_examples=60)
@given(problems(), st.floats(-50.0, 50.0))
def test_a_constant_added_to_the_logits_of_a_pixel_changes_nothing(problem: tuple[LabelCase, Data], shift: float) -> None:
    case, data = problem
    case = LabelCase(case.name, case.options | {"link": "softmax"})
    offset = shift * torch.rand(data.pred[:, :1].shape, dtype=torch.float64)
    result, gradient = evaluate(case.build(), Data(data.pred + offset, data.truth, data.weight))
    truth, slope = evaluate(case.build(), data)
    close(result, truth, 1e-9, 1e-10, 2 * case.grain)
    close(gradient, slope, 1e-8, 1e-9)
    assert gradient.sum(1).abs().max() <= 1e-10 * max(1.0, gradient.abs().max().item())


def test_the_functions_are_public() -> None:
    assert {name for name in dir(lf.functional) if name.endswith("_loss")} >= {
        "cross_entropy_loss",
        "focal_loss",
        "dice_loss",
        "jaccard_loss",
        "tversky_loss",
        "generalized_dice_loss",
        "ce_dice_loss",
        "lovasz_loss",
        "ohem_cross_entropy_loss",
    }
