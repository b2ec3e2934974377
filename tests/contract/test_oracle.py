"""Every loss against float64 NumPy written from its formula: its samples, and its options paired with one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import Case, Data, close, evaluate, random_cotangent
from tests.contract.cases import CASES, each
from tests.contract.options import option_cases
from tests.contract.truth import plainly

PAIRED = option_cases()


def against_oracle(case: Case, data: Data) -> None:
    """The oracle's value; the gradient of plain PyTorch, whose value is the oracle's, and whose slope its complex step's."""
    x = data.pred.numpy()
    truth = torch.from_numpy(case.oracle(data, x))
    cotangent = random_cotangent(truth.shape)
    naive, slope = plainly(case, data, cotangent)
    close(naive, truth)
    for seed in range(2) if case.complex_oracle else ():
        direction = np.random.default_rng(seed).standard_normal(x.shape)
        rise = np.imag(case.oracle(data, x + 1e-40j * direction)) / 1e-40
        expected = (torch.as_tensor(rise) * cotangent).sum()
        close((slope * torch.from_numpy(direction)).sum(), expected, atol=1e-12 * (1 + slope.abs().sum().item()))
    for engine in case.engines:
        result, gradient = evaluate(case.build(engine=engine), data, cotangent)
        assert result.dtype == gradient.dtype == torch.float64
        close(result, truth, grain=case.grain)
        close(gradient, slope, case.slope_tolerance)


@each(short=CASES)
def test_samples_equal_the_oracle(case: Case) -> None:
    """In every kind of space, with every kind of targets and weights among them."""
    turn = CASES.index(case)
    for i in range(max(len(case.spaces), 3)):
        space, way = case.spaces[i % len(case.spaces)], case.ways[(turn + i) % len(case.ways)]
        against_oracle(case, case.make(space, way=way, channels=case.counts[i % len(case.counts)], seed=3 + i))


@each(PAIRED, short=PAIRED)
def test_options_equal_the_oracle(case: Case) -> None:
    """Every option's every value beside every other option's."""
    turn = PAIRED.index(case)
    against_oracle(case, case.make(case.spaces[0], way=case.ways[turn % len(case.ways)], seed=5))


@pytest.mark.slow
@each(PAIRED)
def test_options_equal_the_oracle_in_every_way(case: Case) -> None:
    for seed, way in enumerate(case.ways):
        for space in case.spaces:
            against_oracle(case, case.make(space, way=way, seed=seed))


def test_every_loss_is_here() -> None:
    """With samples, and with options: a loss that is registered is tested, or this fails."""
    listed = {name for fold in internals.FOLDS for name in internals.folded(fold)}
    assert {*listed, *internals.foldless(), "LossSet"} == set(lf.LOSSES), "of no fold, and no foldless loss either"
    for fold in internals.FOLDS:
        here = {case.name for case in CASES if case.fold == fold}
        assert here == set(internals.folded(fold)) and here
        varied = {case.name for case in PAIRED if case.fold == fold}
        assert {name for name in here if not issubclass(lf.LOSSES[name], lf.LossSet)} <= varied, f"list options of {here - varied}"
    assert all(getattr(lf, name) is cls for name, cls in lf.LOSSES.items())
    assert {name for name in dir(lf) if name.endswith("Loss")} <= set(lf.LOSSES)
