"""Options of losses, each value beside each value of every other option: as few rows as that takes, not the product."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.contract.case import Case
from tests.folds.dense import options as dense
from tests.folds.label import options as label
from tests.folds.pair import options as pair
from tests.folds.shape import options as shape
from tests.folds.window import options as window

Row = dict[str, Any]


def pairwise(options: dict[str, list[Any]], together: Callable[[Row], bool] = lambda row: True, seed: int = 7) -> list[Row]:
    """Rows in which any two values of different options that may stand together do.

    Args:
        options: the values of each.
        together: whether the options of a row are allowed beside one another.
        seed: of the draw.
    """
    generator, names = random.Random(seed), list(options)
    choices = {name: range(len(values)) for name, values in options.items()}

    def pairs(row: dict[str, int]) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
        return itertools.combinations(row.items(), 2)

    missing = {
        ((one, i), (other, j)): None
        for one, other in itertools.combinations(names, 2)
        for i, j in itertools.product(choices[one], choices[other])
    }
    rows: list[Row] = []
    while missing:
        wanted = next(iter(missing))
        drawn = [{name: generator.choice(choices[name]) for name in names} | dict(wanted) for _ in range(40)]
        drawn = [row for row in drawn if together({name: options[name][row[name]] for name in names})]
        if not drawn:  # these two never stand together
            missing.pop(wanted)
            continue
        best = max(drawn, key=lambda row: sum(two in missing for two in pairs(row)))
        for two in pairs(best):
            missing.pop(two, None)
        rows.append({name: options[name][best[name]] for name in names})
    return rows


def option_cases() -> list[Case]:
    """The rows of every loss's options."""
    found: list[Case] = []
    for fold in (label, dense, pair, window, shape):
        found += [fold.case_of(name, row) for name, options in fold.OPTIONS.items() for row in pairwise(options, fold.together)]
    return found
