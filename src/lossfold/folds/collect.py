"""The one way from checked arguments to a fold, of single losses and of sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lossfold.folds.fold import Fold, Needs

Between = Callable[[Fold], Fold]


def collect(needs: Needs[Any], given: Any, between: Between | None = None) -> Fold:
    """Make a pass.

    Args:
        needs: what it collects.
        given: a call's arguments, checked.
        between: what stands between the fold and the formulas: a sum over ranks or parts, say; nothing by default.
    """
    return needs.collect(given) if between is None else between(needs.adding().collect(given))
