"""Every loss with a fold, with each of its samples and kinds of targets: what the contract runs over."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.contract.case import ENGINES, Case
from tests.folds.dense.cases import dense_cases
from tests.folds.label.cases import label_cases
from tests.folds.pair.cases import pair_cases
from tests.folds.shape.cases import shape_cases
from tests.folds.window.cases import window_cases
from tests.seeds import seed

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
CASES: list[Case] = [*label_cases(), *dense_cases(), *pair_cases(), *window_cases(), *shape_cases()]


def first_of(key: Callable[[Case], Any], among: Iterable[Case] = CASES) -> list[Case]:
    """The first case of each kind."""
    chosen: dict[Any, Case] = {}
    for case in among:
        chosen.setdefault(key(case), case)
    return list(chosen.values())


A_LOSS = first_of(lambda case: (case.fold, case.name, case.link, case.maps, case.engines))
"""Each loss with its first sample of each link, as a map where it has one, and by sorting: for what the options don't change.

Short runs take these, and every sample where values and derivatives are held to the truth.
"""


def each(
    cases: Iterable[Case] = CASES, *, among: Callable[[Case], bool] = lambda case: True, short: Iterable[Case] = A_LOSS
) -> pytest.MarkDecorator:
    """Parametrize `case`, and leave the engines to the test; what short runs leave out is slow."""
    quick = list(short)
    chosen = [case for case in cases if among(case)]
    quick = quick if any(case in quick for case in chosen) else chosen
    return pytest.mark.parametrize(
        "case",
        [pytest.param(case, id=f"{case.fold}-{case.id}", marks=[] if case in quick else [pytest.mark.slow]) for case in chosen],
    )


def every(
    cases: Iterable[Case] = CASES,
    *,
    among: Callable[[Case], bool] = lambda case: True,
    engines: Iterable[str] = ENGINES,
    short: Iterable[Case] = A_LOSS,
) -> Callable[[Callable[..., None]], pytest.MarkDecorator]:
    """Parametrize `case`, and run the test with it forced onto every engine that it has, one after the other."""

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def on_every_engine(case: Case, **fixtures: Any) -> None:
            for engine in engines:
                if engine in case.engines:
                    print(f"engine={engine!r}")  # pytest tells it where the test fails
                    seed()
                    test(case.changed(engine=engine), **fixtures)

        chosen = [case for case in cases if among(case) and set(engines) & set(case.engines)]
        return each(chosen, short=short)(on_every_engine)

    return decorate
