"""What every adapter does with schedules and intervals: tell the terms that a step of the training is done."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from lossfold.compose.term import Term
from lossfold.errors import LossError


def terms_in(module: nn.Module) -> Iterator[Term]:
    """Yield every term once, however often it stands in a module."""
    yield from (one for one in module.modules() if isinstance(one, Term))


def advance(module: nn.Module) -> None:
    """Tell every term in a module, which need not be a set, that a step is done."""
    for term in terms_in(module):
        term.go_to(term.step + 1)


def checked_criterion(who: str, criterion: object) -> nn.Module:
    """Return what a user passes as a criterion, or refuse it."""
    if not isinstance(criterion, nn.Module):
        raise LossError(who, "criterion", "a loss (an nn.Module)", type(criterion).__name__, "lossfold.build makes one of a dict")
    return criterion
