"""Accumulators as metrics of torchmetrics."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from lossfold.errors import LossError
from lossfold.metrics.accumulators import Accumulator


def checked_accumulator(who: str, accumulator: object) -> Accumulator:
    """Refuse what is none, or holds sums already."""
    if not isinstance(accumulator, Accumulator):
        raise LossError(who, "metric", "an accumulator, as lossfold.metrics.IoU(C=19)", type(accumulator).__name__)
    return copy.deepcopy(accumulator)


def as_torchmetrics(metric: Accumulator, *, mean: bool = False, **options: Any) -> Any:
    """Return a ``torchmetrics.Metric`` of an accumulator, which Lightning logs, resets and adds up over ranks.

    Args:
        metric: an accumulator, as ``lossfold.metrics.IoU(C=19, ignore=255)``.
        mean: whether ``compute()`` is the mean over the classes that have a value, a scalar for ``self.log``.
        options: further options of ``torchmetrics.Metric``.

    Raises:
        LossError: for what is no accumulator, and without torchmetrics.
    """
    try:
        import torchmetrics
    except ImportError:
        raise LossError("as_torchmetrics", "torchmetrics", "installed", "none", "pip install torchmetrics") from None
    blank = checked_accumulator("as_torchmetrics", metric)
    blank.reset()

    class Metric(torchmetrics.Metric):
        """An accumulator's sums as states."""

        full_state_update = False
        is_differentiable = False

        def __init__(self) -> None:
            super().__init__(**options)
            for name, value in blank.named_buffers():
                self.add_state(name, default=value.clone(), dist_reduce_fx="sum")

        def held(self) -> Accumulator:
            """Return an accumulator that holds the states."""
            one = copy.deepcopy(blank)
            for name, _ in blank.named_buffers():
                setattr(one, name, getattr(self, name).clone())
            return one

        def update(self, *inputs: Tensor) -> None:
            """Add a batch."""
            one = self.held()
            one.update(*inputs)
            for name, value in one.named_buffers():
                setattr(self, name, value)

        def compute(self) -> Any:
            """Return the metric of all that was added."""
            value = self.held().compute()
            return value.nanmean() if mean and isinstance(value, Tensor) else value

        def __repr__(self) -> str:
            return f"as_torchmetrics({blank!r})"

    return Metric()
