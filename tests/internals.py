"""The one place where tests look behind the public face."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lossfold.folds.collect import collect


def collected(loss: Any, *call: Any) -> tuple[Any, Any]:
    """The fold of one call, and what `settled` wants to know of the call."""
    given = loss.check(*call)
    return collect(loss.needs(given), given), given


def settled(loss: Any, fold: Any, given: Any) -> Tensor:
    """The value of a fold, or of a sum of folds."""
    result = loss.weigh(loss.reduce(fold, given))
    assert isinstance(result, Tensor)
    return result
