"""What every adapter does with schedules and intervals: tell the terms that a step of the training is done."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from lossfold.compose.term import Term
from lossfold.errors import LossError


def terms_in(*modules: nn.Module) -> Iterator[Term]:
    """Yield every term once, however often it stands in these modules."""
    seen: set[int] = set()
    for module in modules:
        for term in module.modules():
            if isinstance(term, Term) and id(term) not in seen:
                seen.add(id(term))
                yield term


def advance(*modules: nn.Module, steps: int = 1) -> None:
    """Tell every term in these modules that so many steps are done; unlike :meth:`LossSet.advance`, of any module."""
    for term in terms_in(*modules):
        term.go_to(term.step + steps)


def checked_criterion(who: str, criterion: object) -> nn.Module:
    """Return what a user passes as a criterion, or refuse it."""
    if not isinstance(criterion, nn.Module):
        raise LossError(who, "criterion", "a loss (an nn.Module)", type(criterion).__name__, "lossfold.build makes one of a dict")
    return criterion
