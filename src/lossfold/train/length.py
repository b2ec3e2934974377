"""How long a run is where nobody has said it."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lossfold.train.data.base import batches_of_epoch

EPOCHS = 20
LIMITS = ("max_epochs", "max_steps", "max_time")
"""What says how long a run is; -1 is what Lightning writes for nothing."""


def says_nothing(trainer: Any) -> bool:
    """Whether a trainer's options leave open how long it trains."""
    return all(trainer.get(name) in (None, -1) for name in LIMITS[1:]) and trainer.get("max_epochs") is None


class EnoughSteps(Callback):
    """Train for `EPOCHS`, and with few images for as many as make so many steps: a handful of steps teaches nothing.

    Args:
        least: of steps of the optimiser.
    """

    def __init__(self, least: int) -> None:
        self.least = least

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the number of epochs, once the data are known."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "fit" or data is None:
            return
        steps = max(1, batches_of_epoch(data, trainer) // trainer.accumulate_grad_batches)
        trainer.fit_loop.max_epochs = max(EPOCHS, math.ceil(self.least / steps))
