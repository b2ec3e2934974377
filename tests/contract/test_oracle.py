"""Every registered loss against float64 NumPy written from its formula, and against plain PyTorch at each dtype."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests import oracles, plain
from tests.cases import SCORE_LOSSES, Case, Data, cases, close, evaluate, every_case, make
from tests.dense import oracles as dense_oracles
from tests.dense import plain as dense_plain
from tests.truth import assert_no_worse

SPACES = [(7,), (3, 3), (2, 2, 2)]
WEIGHTS = [None, "float", "bool"]

COMMON: dict[str, list[Any]] = {
    "link": ["softmax", "identity"],
    "class_weight": [None, [0.5, 2.0, 1.0, 0.25]],
    "per_image": [False, True],
    "reduction": ["mean", "sum", "none"],
}
OVERLAP: dict[str, list[Any]] = {
    "average": ["macro", "micro"],
    "absent": ["skip", "count", "zero"],
    "include_background": [True, False],
    "squared": [False, True],
    "log": [False, True],
    "smooth": [1.0, 0.0],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "CrossEntropyLoss": {"label_smoothing": [0.0, 0.1]},
    "FocalLoss": {
        "gamma": [2.0, 0.5, 0.0],
        "alpha": [None, 0.25, [0.1, 0.4, 0.3, 0.2]],
        "normalize": ["pixels", "focal"],
    },
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": [0.5, 0.3], "beta": [0.5, 0.9], "exponent": [1.0, 0.75]},
    "GeneralizedDiceLoss": {
        "weighting": ["square", "simple", "uniform"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 1.0],
    },
    "LovaszLoss": {"classes": ["present", "all", [0, 3], [2]], "bins": [4096, 64], "exact": [False, True]},
    "OhemCrossEntropyLoss": {"thresh": [0.3, 0.7], "min_kept": [0, 2, 9, 1000], "top_k_ratio": [None, 0.35, 1.0]},
}


def product(name: str, limit: int) -> list[Case]:
    """The product of the options, thinned to about `limit` by a seeded draw."""
    options = COMMON | SPECIFIC[name]
    rows = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    generator = np.random.default_rng(7)
    chosen = rows if len(rows) <= limit else [rows[i] for i in generator.choice(len(rows), limit, replace=False)]
    return [Case(name, row) for row in chosen]


PRODUCTS = [case for name in SPECIFIC for case in product(name, 60)]


@functools.cache
def expected(case: Case, space: tuple[int, ...], weight: str | None, seed: int) -> tuple[Data, Tensor, Tensor, Tensor]:
    """Data, a random cotangent, and the oracle's value and gradient under it."""
    data = make(case, space, weight=weight, seed=seed)
    labels = data.labels.numpy()
    given = None if data.weight is None else data.weight.numpy()

    def function(x: oracles.Array) -> oracles.Array:
        return oracles.evaluate(case.name, x, labels, given, **case.options)

    x = data.scores.numpy()
    truth = function(x)
    cotangent = np.random.default_rng(seed).standard_normal(truth.shape)
    slope = oracles.gradient(function, x, cotangent)
    return data, *(torch.from_numpy(np.array(array)) for array in (cotangent, truth, slope))


def against_oracle(case: Case, engine: str, space: tuple[int, ...], weight: str | None, seed: int) -> None:
    data, cotangent, truth, slope = expected(case, space, weight, seed)
    result, gradient = evaluate(case.changed(engine=engine).build(), data, cotangent)
    assert result.dtype == torch.float64
    close(result, truth, grain=case.grain)
    close(gradient, slope)


def test_every_registered_loss_has_samples_and_an_oracle() -> None:
    """Those of scores; tests/pair/test_oracle.py asks it of the others."""
    for name in SCORE_LOSSES:
        labels, dense = lf.LOSSES[name].samples, getattr(lf.LOSSES[name], "dense_samples", ())
        assert labels or dense, f"{name} has no samples: no contract suite would run it"
        for samples, package, written in ((labels, "", (oracles, plain)), (dense, "dense/", (dense_oracles, dense_plain))):
            assert not samples or name in written[0].ORACLES, f"write the formula of {name} into tests/{package}oracles"
            assert not samples or name in written[1].PLAIN, f"write {name} in plain PyTorch into tests/{package}plain.py"


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
@pytest.mark.parametrize(("space", "weight"), list(zip(SPACES, WEIGHTS, strict=True)), ids=str)
def test_samples_equal_the_oracle(case: Case, space: tuple[int, ...], weight: str | None) -> None:
    for engine in case.engines:
        against_oracle(case, engine, space, weight, 3)


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.id)
def test_options_equal_the_oracle(case: Case) -> None:
    plain_against_oracle(case)
    for engine in case.engines:
        against_oracle(case, engine, (6,), "float", 5)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_plain_pytorch_equals_the_oracle(case: Case) -> None:
    plain_against_oracle(case)


def plain_against_oracle(case: Case) -> None:
    """The yardstick is right before anything is measured with it."""
    data, cotangent, truth, slope = expected(case, (6,), "float", 5)
    leaf = data.leaf()
    result = plain.evaluate(case.name, *leaf.call, case.options)
    (gradient,) = torch.autograd.grad(result, leaf.scores, cotangent)
    close(result.detach(), truth)
    close(gradient, slope)


@every_case()
@pytest.mark.parametrize(("space", "weight"), [((1031,), None), ((37, 29), "float"), ((7, 11, 13), "bool")], ids=str)
def test_no_worse_than_plain_pytorch(
    case: Case, space: tuple[int, ...], weight: str | None, dtype: torch.dtype, device: torch.device
) -> None:
    """At each dtype the engine is no further from the float64 truth than plain PyTorch at that dtype."""
    assert_no_worse(case, make(case, space, dtype=dtype, weight=weight, device=device))


def test_uint8_labels_with_an_ignore_label() -> None:
    for case in cases():
        case = case.changed(ignore_index=255)
        data = make(case, (5, 7))
        assert (data.labels == 255).any()
        truth, slope = evaluate(case.build(), data)
        for label_dtype in (torch.int32, torch.uint8):
            result, gradient = evaluate(case.build(), data.to(torch.float64, label_dtype))
            close(result, truth)
            close(gradient, slope)


def test_scores_of_the_identity_link_below_the_floor_have_no_gradient() -> None:
    scores = torch.tensor([[[1e-13], [1.0 - 1e-13]]], dtype=torch.float64)
    data = Data(scores, torch.tensor([[0]]))
    for engine in lf.engines.available():
        loss = lf.CrossEntropyLoss(link="identity", engine=engine)
        result, gradient = evaluate(loss, data)
        close(result, torch.tensor(12 * np.log(10.0)))
        assert gradient.abs().max() == 0
