"""Networks in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Within it modules are in eval mode; afterwards each of their parts is as it was."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


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
