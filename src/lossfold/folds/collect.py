"""The one way from checked arguments to a fold, of single losses and of sets."""

from __future__ import annotations

from typing import Any

from lossfold.folds.fold import Fold, Needs


def collect(needs: Needs[Any], given: Any) -> Fold:
    """Make a pass over one batch; what it adds up to with other parts of a batch is for losses to say, in their addends.

    Args:
        needs: what it collects.
        given: a call's arguments, checked.
    """
    return needs.collect(given)
