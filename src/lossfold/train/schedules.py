"""Learning rate schedules by name, over the whole training, stepped after every optimiser step."""

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Schedule = Literal["cosine", "poly", "linear", "constant"]


def schedule(optimizer: Optimizer, name: Schedule, total_steps: int, warmup: float) -> LRScheduler:
    """Rise linearly during the warm-up, then fall to zero by the named curve.

    Args:
        optimizer: whose learning rates are scaled.
        name: cosine, poly (power 0.9), linear, or constant.
        total_steps: optimiser steps of the training.
        warmup: share of the steps that the rise takes, 0..1.
    """
    rise = max(1, round(warmup * total_steps)) if warmup > 0 else 0

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        left = max(0.0, 1 - (step - rise) / max(1, total_steps - rise))
        if name == "cosine":
            return 0.5 - 0.5 * math.cos(math.pi * left)
        return {"poly": math.pow(left, 0.9), "linear": left, "constant": 1.0}[name]

    return LambdaLR(optimizer, factor)
