"""Networks in evaluation mode, or on a device, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from torch import nn


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
def placed(module: pl.LightningModule, device: torch.device) -> Iterator[None]:
    """Within it a module is on a device: a trainer that has finished leaves it on the CPU."""
    before = module.device
    module.to(device)
    try:
        yield
    finally:
        module.to(before)
