"""Filters at every size of an image, the terms of criteria, and sums of a million pixels: against NumPy and SciPy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.contract.test_oracle import against_oracle
from tests.folds.pair import oracles, plain
from tests.folds.pair.cases import PairCase


def test_every_registered_loss_of_a_pair_has_samples_and_an_oracle() -> None:
    for name in internals.folded("pair"):
        assert lf.LOSSES[name].samples, f"{name} has no samples: no contract suite would run it"
        assert name in oracles.ORACLES | oracles.WHOLE or name in oracles.SETS, (
            f"write the formula of {name} into tests/folds/pair/oracles.py"
        )
        assert name in plain.PLAIN | plain.WHOLE or name in plain.SETS, f"write {name} into tests/folds/pair/plain.py"


@pytest.mark.parametrize("alpha_link", ["identity", "sigmoid"])
@pytest.mark.parametrize("name", list(oracles.SETS))
def test_terms_of_sets_equal_the_oracle(name: str, alpha_link: str) -> None:
    """All eight terms, and each in both lists of the mixed criterion."""
    every = list(oracles.TERMS)
    for lists in ({"losses": every},) if name == "MattingLoss" else ({"segmentation": every[:5]}, {"matting": every[3:]}):
        case = PairCase(name, {**lists, "alpha_link": alpha_link, "reference_area": 262144})
        data = case.make((13, 10), batch=3)
        truth = oracles.terms(name, data, case.options)
        against_oracle(case, data)
        for engine in case.engines:
            out = case.build(engine=engine)(*data.call)
            assert set(out.terms) == set(truth)
            for term, expected in truth.items():
                close(out.terms[term], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("options", "region"), [({}, None), ({"residual": True}, "soft"), ({"levels": 3}, "bool")], ids=str)
def test_the_pyramid_of_any_size(options: dict[str, Any], region: str | None) -> None:
    """Sides around 4, where levels end, odd and even, and each beside a long one."""
    case = PairCase("LaplacianPyramidLoss", options)
    for side in range(1, 64):
        for space in {(side, side), (side, 37), (45, side)} if side < 8 else {(side, 67 - side)}:
            data = case.make(space, batch=1, way=("", region), seed=side)
            if min(space) < 4 and not case.options.get("residual"):
                close(run_of(case, data), torch.zeros((), dtype=torch.float64), 0, 0)
            against_oracle(case, data)


def run_of(case: PairCase, data: Data) -> Tensor:
    results = [evaluate(case.changed(engine=engine).build(), data) for engine in case.engines]
    assert all(gradient.abs().max() == 0 for _, gradient in results)
    return torch.stack([result for result, _ in results]).max()


@pytest.mark.parametrize("space", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (1, 300), (300, 1), (65, 33), (40, 1030)], ids=str)
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_edges_of_any_size(padding: str, space: tuple[int, ...]) -> None:
    case = PairCase("MattingGradientLoss", {"padding": padding, "smoothness": 0.1})
    against_oracle(case, case.make(space))
    case = PairCase("TVLoss", {"order": {"replicate": "l1", "zeros": "l2"}[padding]})
    against_oracle(case, case.make(space))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_pixels_in_float32(engine: str) -> None:
    """Sums in float32 alone would be off in the fifth digit."""
    generator = torch.Generator().manual_seed(0)
    pred, target, region = (torch.rand(1, 1, 1000, 1024, generator=generator) for _ in range(3))
    names = list(oracles.TERMS)
    out = lf.MattingLoss(losses=names, engine=engine)(pred, target, region)
    truth = oracles.terms("MattingLoss", Data(pred, target, region), {"losses": names})
    for name, expected in truth.items():
        close(out.terms[name].double(), torch.tensor(expected, dtype=torch.float64), 1e-6, 0)
    for name in ("MSELoss", "HuberLoss", "CharbonnierLoss"):
        data = Data(pred, target, 1 + region)
        result, _ = evaluate(lf.LOSSES[name](engine=engine), data)
        close(result.double(), torch.from_numpy(oracles.evaluate(name, data, {})), 1e-6, 0)
