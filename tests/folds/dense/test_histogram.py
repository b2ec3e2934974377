"""Lovász losses of dense targets from a histogram: how near they are to sorting."""

from __future__ import annotations

import math

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.folds.dense import oracles
from tests.folds.dense.cases import DenseCase


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("link", "bins"), [("sigmoid", 4096), ("sigmoid", 64), ("identity", 256), ("hinge", 4096), ("hinge", 64)])
@pytest.mark.parametrize("spread", [0.5, 3.0, 3000.0])
def test_a_histogram_is_within_its_bound_of_sorting(engine: str, link: str, bins: int, spread: float) -> None:
    """Within 1/bins, with hinge (1 + m) 16/bins for the largest error m; in practice far closer; and between its two bounds."""
    case = DenseCase("LovaszLoss", {"link": link, "bins": bins, "reduction": "none", "per_image": True})
    data = case.make((500,), way=("int", "element"), spread=spread)
    result, _ = evaluate(case.changed(engine=engine).build(), data)
    assert data.weight is not None
    truth = oracles.evaluate(
        case.name, data.pred.numpy(), data.truth.numpy(), data.weight.numpy(), **case.changed(exact=True).options
    )
    bound = 1 / bins
    if link == "hinge":
        largest = data.pred.abs().max().item() + 1
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
