"""Folds add up: the parts of a batch or of its images, folded apart, are the fold of the whole."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import Case, Data, both_close, evaluate, slope_of
from tests.contract.cases import every


def added(case: Case, parts: list[Data]) -> torch.Tensor:
    """The value of the sum of the parts' folds."""
    loss = case.build()
    folds = [internals.collected(loss, *part.call) for part in parts]
    total = folds[0][0] + folds[1][0]
    alone = internals.settled(loss, *folds[0])
    result = internals.settled(loss, total, folds[0][1])
    assert not torch.equal(alone, result), "the second part counts for nothing"
    return result


def compare(case: Case, data: Data, parts: list[Data], leaf: Data) -> None:
    result = added(case, parts)
    both_close((result.detach(), slope_of(result, leaf.pred)), evaluate(case.build(), data), grain=case.grain)


@every(among=lambda case: case.adds_up and case.reduction != "none")
def test_folds_of_batches_add_up(case: Case) -> None:
    """Micro-batches of a loss over the batch."""
    case = case.changed(per_image=False) if case.fold in ("label", "dense") else case
    data = case.make(batch=4, way=case.rich)
    leaf = data.leaf()
    compare(case, data, [leaf.each(lambda one, cut=cut: one[cut]) for cut in (slice(0, 2), slice(2, 4))], leaf)


@every(among=lambda case: case.adds_up and case.pixelwise and case.reduction != "none" and not case.scales_with_area)
def test_folds_of_tiles_add_up(case: Case) -> None:
    """The left and the right part of every image."""
    data = case.make((7, 9), way=case.rich)
    leaf = data.leaf()
    compare(case, data, [leaf.each(lambda one, cut=cut: one[..., cut]) for cut in (slice(0, 4), slice(4, 9))], leaf)


@every(among=lambda case: case.adds_up and case.fold in ("pair", "window"))
def test_folds_of_other_batches_do_not(case: Case) -> None:
    loss = case.build()
    data = case.make(batch=3, way=case.rich)
    whole, part = (internals.collected(loss, *one.call)[0] for one in (data, data.each(lambda one: one[:2])))
    with pytest.raises(lf.LossError, match=r"(?i)fold"):
        whole + part
