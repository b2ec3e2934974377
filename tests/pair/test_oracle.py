"""Every loss of a pair against float64 NumPy written from its formula, and against plain PyTorch at each dtype."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, PAIR_LOSSES, close
from tests.pair import oracles, plain
from tests.pair.cases import REGIONS, PairCase, PairData, evaluate, every_pair_case, make_pair, pair_cases
from tests.truth import no_worse

COMMON: dict[str, list[Any]] = {"link": ["identity", "sigmoid"], "reduction": ["mean", "sum", "none", "sample_wise"]}
REGIONAL: dict[str, list[Any]] = {"reference_area": [None, 262144, 100.0]}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "SmoothL1Loss": {"beta": [1.0, 0.1, 0]},
    "HuberLoss": {"delta": [1.0, 0.1]},
    "CharbonnierLoss": {"eps": [1e-12, 1e-3]},
    "CharbonnierCompLoss": {"eps": [1e-12, 1e-3]},
    "UnknownL1Loss": REGIONAL,
    "KnownL1Loss": REGIONAL,
    "KnownSmoothL1Loss": REGIONAL | {"beta": [1.0, 0.1, 0]},
    "MattingGradientLoss": REGIONAL | {"padding": ["replicate", "zeros"], "smoothness": [0.01, 0, 0.5]},
    "LaplacianPyramidLoss": {"levels": [5, 1, 2, 16], "residual": [False, True]},
    "GradientLoss": {"padding": ["zeros", "replicate"]},
    "TVLoss": {"order": ["l1", "l2"]},
    "MaskedTVLoss": {"order": ["l1", "l2"]},
}


def product(name: str, limit: int) -> list[PairCase]:
    """The product of the options, thinned to about `limit` by a seeded draw."""
    options = COMMON | SPECIFIC.get(name, {})
    rows = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    for row in rows:
        if row["reduction"] != "mean":
            row.pop("reference_area", None) if row["reduction"] != "sample_wise" else None
        if row["reduction"] == "sample_wise":
            row.update(reduction="mean", sample_wise=True)
    generator = np.random.default_rng(7)
    chosen = rows if len(rows) <= limit else [rows[i] for i in generator.choice(len(rows), limit, replace=False)]
    return [PairCase(name, row) for row in chosen]


LEAVES = [name for name in PAIR_LOSSES if not issubclass(lf.LOSSES[name], lf.LossSet)]
PRODUCTS = [case for name in LEAVES for case in product(name, 12)]


def truth_of(case: PairCase, data: PairData, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient of plain PyTorch in float64."""
    leaf = data.double().leaf()
    truth = plain.evaluate(case.name, leaf, case.options)
    seed = torch.ones_like(truth) if cotangent is None else cotangent
    return truth.detach(), torch.autograd.grad(truth, leaf.pred, seed)[0]


def against_oracle(case: PairCase, data: PairData) -> None:
    """The oracle's value; the gradient of plain PyTorch, which has the oracle's value as well."""
    truth = torch.from_numpy(oracles.evaluate(case.name, data, case.options))
    cotangent = torch.from_numpy(np.random.default_rng(1).standard_normal(truth.shape))
    value, slope = truth_of(case, data, cotangent)
    close(value, truth)
    for engine in case.engines:
        result, gradient = evaluate(case.changed(engine=engine).build(), data, cotangent)
        assert result.dtype == torch.float64
        close(result, truth)
        close(gradient, slope)


def test_every_registered_loss_of_a_pair_has_samples_and_an_oracle() -> None:
    for name in PAIR_LOSSES:
        assert lf.LOSSES[name].samples, f"{name} has no samples: no contract suite would run it"
        assert name in oracles.ORACLES | oracles.WHOLE or name in oracles.SETS, (
            f"write the formula of {name} into tests/pair/oracles.py"
        )
        assert name in plain.PLAIN | plain.WHOLE or name in plain.SETS, f"write {name} in plain PyTorch into tests/pair/plain.py"


@pytest.mark.parametrize("case", pair_cases(), ids=lambda case: case.id)
def test_samples_equal_the_oracle(case: PairCase) -> None:
    kinds: tuple[str | None, ...] = (None, *REGIONS)
    for space, channels, (seed, region) in itertools.product(case.spaces, (1, 3), enumerate(kinds)):
        against_oracle(case, make_pair(case, space, channels=channels, region=region, seed=seed))


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.id)
def test_options_equal_the_oracle(case: PairCase) -> None:
    for region in (None, "soft", "channels"):
        against_oracle(case, make_pair(case, (9, 8), channels=2, region=region, seed=5))


@pytest.mark.parametrize("alpha_link", ["identity", "sigmoid"])
@pytest.mark.parametrize("name", list(oracles.SETS))
def test_terms_of_sets_equal_the_oracle(name: str, alpha_link: str) -> None:
    """All eight terms, and each in both lists of the mixed criterion."""
    every = list(oracles.TERMS)
    for lists in ({"losses": every},) if name == "MattingLoss" else ({"segmentation": every[:5]}, {"matting": every[3:]}):
        case = PairCase(name, {**lists, "alpha_link": alpha_link, "reference_area": 262144})
        data = make_pair(case, (13, 10), batch=3)
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
            data = make_pair(case, space, batch=1, region=region, seed=side)
            if min(space) < 4 and not case.options.get("residual"):
                close(run_of(case, data), torch.zeros((), dtype=torch.float64), 0, 0)
            against_oracle(case, data)


def run_of(case: PairCase, data: PairData) -> Tensor:
    results = [evaluate(case.changed(engine=engine).build(), data) for engine in case.engines]
    assert all(gradient.abs().max() == 0 for _, gradient in results)
    return torch.stack([result for result, _ in results]).max()


@pytest.mark.parametrize("space", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (1, 300), (300, 1), (65, 33), (40, 1030)], ids=str)
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_edges_of_any_size(padding: str, space: tuple[int, ...]) -> None:
    case = PairCase("MattingGradientLoss", {"padding": padding, "smoothness": 0.1})
    against_oracle(case, make_pair(case, space))
    case = PairCase("TVLoss", {"order": {"replicate": "l1", "zeros": "l2"}[padding]})
    against_oracle(case, make_pair(case, space))


@every_pair_case(among=[case for case in pair_cases() if case.options.get("reduction") != "sum"])
def test_no_worse_than_plain_pytorch(case: PairCase, dtype: torch.dtype, device: torch.device) -> None:
    """At each dtype the engine is no further from the float64 truth than plain PyTorch at that dtype."""
    data = make_pair(case, (71, 53), dtype=dtype, device=device)
    cotangent = torch.randn(truth_of(case, data)[0].shape, dtype=torch.float64)
    truth, slope = truth_of(case, data, cotangent)
    leaf = data.leaf()
    naive = plain.evaluate(case.name, leaf, case.options)
    (naive_slope,) = torch.autograd.grad(naive, leaf.pred, cotangent.to(naive))
    reference, reference_slope = evaluate(case.changed(engine="eager").build(), data, cotangent)
    result, gradient = evaluate(case.build(), data, cotangent)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    no_worse(result, truth, naive.detach(), reference)
    no_worse(gradient, slope, naive_slope, reference_slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_pixels_in_float32(engine: str) -> None:
    """Sums in float32 alone would be off in the fifth digit."""
    generator = torch.Generator().manual_seed(0)
    pred, target, region = (torch.rand(1, 1, 1000, 1024, generator=generator) for _ in range(3))
    names = list(oracles.TERMS)
    out = lf.MattingLoss(losses=names, engine=engine)(pred, target, region)
    truth = oracles.terms("MattingLoss", PairData(pred, (target,), region), {"losses": names})
    for name, expected in truth.items():
        close(out.terms[name].double(), torch.tensor(expected, dtype=torch.float64), 1e-6, 0)
    for name in ("MSELoss", "HuberLoss", "CharbonnierLoss"):
        data = PairData(pred, (target,), 1 + region)
        result, _ = evaluate(lf.LOSSES[name](engine=engine), data)
        close(result.double(), torch.from_numpy(oracles.evaluate(name, data, {})), 1e-6, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_and_regions_of_other_dtypes(engine: str) -> None:
    """Boolean targets are 0 and 1, and a region's dtype is not the prediction's."""
    for case in pair_cases():
        if case.composes or engine not in case.engines:
            continue
        loss = case.changed(engine=engine).build()
        data = make_pair(case, (12, 9), dtype=torch.float32, region="bool")
        hard = PairData(data.pred, tuple(one > 0.5 for one in data.others), data.region)
        numbers = PairData(
            data.pred, tuple(one.half() for one in hard.others), None if data.region is None else data.region.bfloat16()
        )
        for found, truth in zip(evaluate(loss, hard), evaluate(loss, numbers), strict=True):
            close(found, truth, 0, 0)
