"""Every dense loss against float64 NumPy written from its formula, and against plain PyTorch at each dtype."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, Data, close, evaluate
from tests.dense import oracles, plain
from tests.dense.cases import DenseCase, dense_cases, every_dense_case, make_dense, rotate
from tests.dense.steps import settled
from tests.oracles import gradient as complex_step
from tests.truth import no_worse

SPACES: list[tuple[int, ...]] = [(5,), (2, 3), (2, 1, 3), ()]
COMMON: dict[str, list[Any]] = {
    "class_weight": [None, [0.5, 2.0, 1.0, 0.25]],
    "per_image": [False, True],
    "reduction": ["mean", "sum", "none"],
}
OVERLAP: dict[str, list[Any]] = {
    "link": ["softmax", "sigmoid", "identity"],
    "average": ["macro", "micro"],
    "absent": ["skip", "count", "zero"],
    "include_background": [True, False],
    "squared": [False, True],
    "log": [False, True],
    "smooth": [1.0, 0.0],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "BinaryCrossEntropyLoss": {
        "link": ["sigmoid", "identity"],
        "label_smoothing": [0.0, 0.1],
        "pos_weight": [None, 2.5, [3.0, 0.5, 1.0, 0.0]],
    },
    "CrossEntropyLoss": {"link": ["softmax", "identity"], "label_smoothing": [0.0, 0.1]},
    "FocalLoss": {
        "link": ["sigmoid", "identity"],
        "gamma": [2.0, 0.5, 0.0],
        "alpha": [None, 0.25, [0.1, 0.4, 0.3, 0.0]],
        "normalize": ["pixels", "focal"],
    },
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": [0.5, 0.3], "beta": [0.5, 0.9], "exponent": [1.0, 0.75]},
    "GeneralizedDiceLoss": {
        "link": ["softmax", "sigmoid", "identity"],
        "weighting": ["square", "simple", "uniform"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 1.0],
    },
    "LovaszLoss": {
        "link": ["sigmoid", "identity", "hinge"],
        "classes": ["present", "all", [0, 3]],
        "bins": [4096, 64],
        "exact": [False, True],
    },
}


def product(name: str, limit: int) -> list[DenseCase]:
    """The product of the options that go together, thinned by a seeded draw."""
    options = COMMON | SPECIFIC[name]
    rows = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    rows = [row for row in rows if row["link"] != "hinge" or row.get("classes") == "present"]
    chosen = np.random.default_rng(11).choice(len(rows), min(limit, len(rows)), replace=False)
    return [DenseCase(name, rows[i]) for i in chosen]


PRODUCTS = [case for name in SPECIFIC for case in product(name, 30)]


@functools.cache
def expected(
    case: DenseCase, space: tuple[int, ...], target: str, weight: str | None, seed: int
) -> tuple[Data, Tensor, Tensor, Tensor]:
    """Data, a random cotangent, and the oracle's value and gradient under it."""
    data = make_dense(case, space, target=target, weight=weight, seed=seed)
    targets, given = data.labels.numpy(), None if data.weight is None else data.weight.numpy()

    def function(x: oracles.Array) -> oracles.Array:
        return oracles.evaluate(case.name, x, targets, given, **case.options)

    truth = function(data.scores.numpy())
    cotangent = np.random.default_rng(seed).standard_normal(truth.shape)
    slope = complex_step(function, data.scores.numpy(), cotangent)
    return data, *(torch.from_numpy(np.array(array)) for array in (cotangent, truth, slope))


def against_oracle(case: DenseCase, space: tuple[int, ...], target: str, weight: str | None, seed: int) -> None:
    data, cotangent, truth, slope = expected(case, space, target, weight, seed)
    for engine in case.engines:
        result, gradient = evaluate(case.changed(engine=engine).build(), data, cotangent)
        assert result.dtype == torch.float64
        close(result, truth, grain=case.grain)
        close(gradient, slope)


def plain_against_oracle(case: DenseCase, space: tuple[int, ...], target: str, weight: str | None, seed: int) -> None:
    """The yardstick is right before anything is measured with it."""
    data, cotangent, truth, slope = expected(case, space, target, weight, seed)
    leaf = data.leaf()
    result = plain.evaluate(case, leaf)
    (gradient,) = torch.autograd.grad(result, leaf.scores, cotangent)
    close(result.detach(), truth)
    close(gradient, slope)


def test_every_dense_loss_has_an_oracle() -> None:
    dense = {name for name in lf.LOSSES if getattr(lf.LOSSES[name], "dense_samples", ())}
    assert dense == set(oracles.ORACLES) == set(plain.PLAIN) == set(SPECIFIC)


@pytest.mark.parametrize(("index", "case"), list(enumerate(dense_cases())), ids=lambda x: x.id if isinstance(x, DenseCase) else "")
def test_samples_equal_the_oracle(index: int, case: DenseCase) -> None:
    """Each sample in every kind of space, with every kind of targets and weights among them."""
    for i, space in enumerate(SPACES):
        target, weight = rotate(4 * index + i)
        against_oracle(case, space, target, weight, 3)


@pytest.mark.parametrize(("index", "case"), list(enumerate(PRODUCTS)), ids=lambda x: x.id if isinstance(x, DenseCase) else "")
def test_options_equal_the_oracle(index: int, case: DenseCase) -> None:
    target, weight = rotate(index, (None, "pixel", "element"))
    plain_against_oracle(case, (5,), target, weight, 5)
    against_oracle(case, (5,), target, weight, 5)


@every_dense_case()
def test_no_worse_than_plain_pytorch(case: DenseCase, dtype: torch.dtype) -> None:
    """At each dtype the engine is no further from the float64 truth than plain PyTorch at that dtype."""
    for space, target, weight in [((1031,), "soft", None), ((37, 29), "int", "pixel"), ((7, 11, 13), "hard", "element")]:
        data = settled(case, make_dense(case, space, target=target, dtype=dtype, weight=weight))
        wide = Data(data.scores.double(), data.labels, None if data.weight is None else data.weight.double()).leaf()
        truth = plain.evaluate(case, wide)
        cotangent = torch.randn(truth.shape, dtype=torch.float64)
        (slope,) = torch.autograd.grad(truth, wide.scores, cotangent)
        leaf = data.leaf()
        naive = plain.evaluate(case, leaf)
        (naive_slope,) = torch.autograd.grad(naive, leaf.scores, cotangent.to(naive))
        reference, reference_slope = evaluate(case.changed(engine="eager").build(), data, cotangent)
        result, gradient = evaluate(case.build(), data, cotangent)
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert gradient.dtype == dtype
        no_worse(result, truth.detach(), naive.detach(), reference, grain=case.grain, unit=1.0)
        no_worse(gradient, slope, naive_slope, reference_slope)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("link", "bins"), [("sigmoid", 4096), ("sigmoid", 64), ("identity", 256), ("hinge", 4096), ("hinge", 64)])
@pytest.mark.parametrize("spread", [0.5, 3.0, 3000.0])
def test_a_histogram_is_within_its_bound_of_sorting(engine: str, link: str, bins: int, spread: float) -> None:
    """Within 1/bins, with hinge (1 + m) 16/bins for the largest error m; in practice far closer; and between its two bounds."""
    case = DenseCase("LovaszLoss", {"link": link, "bins": bins, "reduction": "none", "per_image": True})
    data = make_dense(case, (500,), target="int", weight="element", spread=spread)
    result, _ = evaluate(case.changed(engine=engine).build(), data)
    assert data.weight is not None
    truth = oracles.evaluate(
        case.name, data.scores.numpy(), data.labels.numpy(), data.weight.numpy(), **case.changed(exact=True).options
    )
    bound = 1 / bins
    if link == "hinge":
        largest = data.scores.abs().max().item() + 1
        bound = (1 + largest) * 16 / bins
    away = (result - torch.from_numpy(truth)).abs().max().item()
    assert away <= (bound / 10 if bins >= 256 else bound), f"{away / bound:.3f} of the bound"
    lower, upper = lf.functional.lovasz_bounds(*data.call, **case.options)
    slack = 1e-12 + bound * 2**-20
    assert (lower <= result + slack).all() and (result <= upper + slack).all()
    assert (lower <= torch.from_numpy(truth) + slack).all() and (torch.from_numpy(truth) <= upper + slack).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hinge_error_beyond_all_octaves(engine: str) -> None:
    """Errors above 65535 have a bin for each octave: within a factor of two, and never lost."""
    scores = torch.tensor([[[-1e6, 3.0, 2.0, -1.5, 5.0]]], dtype=torch.float64)
    targets = torch.tensor([[[1, 1, 0, 0, 0]]])
    case = DenseCase("LovaszLoss", {"link": "hinge"})
    result, gradient = evaluate(case.changed(engine=engine).build(), Data(scores, targets))
    truth, slope = evaluate(case.changed(exact=True).build(), Data(scores, targets))
    assert math.isclose(result.item(), truth.item(), rel_tol=1e-6)
    close(gradient, slope, 1e-3, 1e-3)
