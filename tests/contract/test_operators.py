"""The compiled operators: which run, how often, and that torch.library finds them in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import internals
from tests.contract.case import Case, evaluate
from tests.contract.cases import A_LOSS, CASES, every, native
from tests.internals import Watch

pytestmark = native


OF_TARGETS = ("distance", "skeleton")
"""Operators of targets alone, which no fold has."""


def expected(case: Case) -> list[str]:
    """One fold and one unfold a pass, or both at once; a map of labels and of dense targets is an operator of its own."""
    if case.linear:
        return [f"{case.fold}_once"]
    if case.maps:
        chosen = ["label_fold"] if case.name == "OhemCrossEntropyLoss" else []
        return {"label": [*chosen, "label_map", "label_unfold"], "dense": ["dense_map", "dense_unfold"]}[case.fold]
    passes = [line.split(" ")[0] for line in case.passes.splitlines()] if case.is_set else [case.fold]
    passes += ["pair"] if case.name == "L1SSIMLoss" else []
    scales = len(case.options.get("betas", (1,) * 5)) if case.name == "MSSSIMLoss" else 1
    return [f"{fold}_{what}" for what in ("fold", "unfold") for fold in passes for _ in range(scales)]


@every(engines=["cpp"], among=lambda case: not case.plain_sums)
def test_one_fold_and_one_unfold(case: Case) -> None:
    """And nothing of the kind from the definition."""
    data = case.make(way=case.rich)
    with Watch() as watch:
        evaluate(case.build(), data)
    assert sorted(name for name in watch.names if name not in OF_TARGETS) == sorted(expected(case))
    with Watch() as watch:
        evaluate(case.build(engine="eager"), data)
    assert not {*watch.names} - {*OF_TARGETS}


def seen() -> dict[str, list[Any]]:
    """A call of each operator for each dtype, set of absent arguments, link and kind of sums, over all losses."""
    found: dict[str, dict[str, Any]] = {fold: {} for fold in internals.FOLDS}
    dtypes = torch.float64, torch.float16, torch.float32, torch.bfloat16
    for case in (case for case in A_LOSS if "cpp" in case.engines):
        case = case.changed(betas=(0.4, 0.6)) if case.name == "MSSSIMLoss" else case
        for turn, dtype in enumerate(dtypes[:2] if case.fold != "pair" else dtypes):
            way = case.ways[(turn + len(case.id)) % len(case.ways)]
            data = case.make((2, 3) if case.fold in ("label", "dense") else case.spaces[-1], dtype=dtype, way=way)
            with Watch() as watch:
                evaluate(case.build(engine="cpp"), data)
            for func, args, kwargs in watch.calls:
                fold = func._schema.name.split("::")[1].split("_")[0]
                if fold in OF_TARGETS:
                    continue
                kinds = [a.dtype if isinstance(a, Tensor) else a is None for a in args if not isinstance(a, int | float)]
                special = case.name in (
                    "BoundaryLoss",
                    "LovaszLoss",
                    "OhemCrossEntropyLoss",
                    "LaplacianPyramidLoss",
                    "MattingGradientLoss",
                )
                key = f"{func}{kinds}{case.link}{case.name if special else ''}"
                found[fold].setdefault(key, (func, args, kwargs))
    return {fold: list(calls.values()) for fold, calls in found.items()}


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Any]]:
    return seen()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("fold", [fold for fold in internals.FOLDS if internals.registered(fold)])
def test_opcheck(fold: str, recorded: dict[str, list[Any]]) -> None:
    """No operator is left out; graphs are compiled once for the arguments that are there."""
    names = {call[0]._schema.name for call in recorded[fold]}
    assert names and names == internals.registered(fold)
    whole: list[Any] = []
    for operator, args, kwargs in recorded[fold]:
        kind = operator, [a is None for a in args]
        internals.opcheck(operator, args, kwargs, internals.QUICK_OPCHECKS if kind in whole else internals.OPCHECKS)
        whole.append(kind)


def test_every_loss_is_watched() -> None:
    assert {case.name for case in A_LOSS} == {case.name for case in CASES}
