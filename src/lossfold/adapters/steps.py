"""What every adapter does: tell schedules and intervals that a step is done, and look at the parts of a batch beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lossfold.compose.term import advance as advance
from lossfold.compose.term import terms_in as terms_in
from lossfold.errors import LossError


def checked_criterion(who: str, criterion: object) -> nn.Module:
    """Return what a user passes as a criterion, or refuse it."""
    if not isinstance(criterion, nn.Module):
        raise LossError(who, "criterion", "a loss (an nn.Module)", type(criterion).__name__, "lossfold.build makes one of a dict")
    return criterion


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within it batch norms normalise as in training, and leave their running statistics as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    kept = [(part, {name: value.clone() for name, value in part.named_buffers(recurse=False)}) for part in norms]
    try:
        yield
    finally:
        for part, buffers in kept:
            for name, value in buffers.items():
                getattr(part, name).copy_(value)
