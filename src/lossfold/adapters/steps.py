"""What every adapter does with schedules and intervals: tell the terms that a step of the training is done."""

from __future__ import annotations

from torch import nn

from lossfold.compose.term import advance as advance
from lossfold.compose.term import terms_in as terms_in
from lossfold.errors import LossError


def checked_criterion(who: str, criterion: object) -> nn.Module:
    """Return what a user passes as a criterion, or refuse it."""
    if not isinstance(criterion, nn.Module):
        raise LossError(who, "criterion", "a loss (an nn.Module)", type(criterion).__name__, "lossfold.build makes one of a dict")
    return criterion
