"""One start for what is random."""

from __future__ import annotations

import torch


def seed(number: int = 0) -> None:
    """`torch.manual_seed` of what is in use: that one writes down the stack for each kind of device that is not, a millisecond."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
