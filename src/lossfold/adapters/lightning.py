"""Losses in Lightning: ``Trainer(callbacks=[AdvanceLosses()])``, and ``self.log_dict(out.log("train/"))`` in ``training_step``."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import nn

from lossfold.adapters.steps import advance, checked_criterion


class AdvanceLosses(pl.Callback):
    """Advance the sets of a LightningModule after every batch in which an optimiser has stepped.

    With gradient accumulation that is once an optimiser step. Several optimisers in one batch are one step of the training. Sets
    that are attributes of the module are found, and Lightning's checkpoints keep their steps.

    Args:
        criterion: what to advance in place of the module's own, for a set elsewhere, whose state you keep yourself.

    On several devices ``LossSet(..., sync=True)`` has the loss of all ranks' batches; ``accumulate_grad_batches`` averages those of
    micro-batches, where ``criterion.accumulate()`` and manual optimisation have that of the batch (see docs/ranks.md).

    Raises:
        LossError: for a criterion that is no module.

    Example:
        >>> trainer = pl.Trainer(callbacks=[AdvanceLosses()], max_epochs=1, logger=False, accelerator="cpu")
    """

    def __init__(self, criterion: nn.Module | None = None) -> None:
        self.criterion = None if criterion is None else checked_criterion("AdvanceLosses", criterion)
        self.seen = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count where the training does, also where it is resumed."""
        self.seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance where an optimiser has stepped."""
        if trainer.global_step > self.seen:
            self.seen = trainer.global_step
            advance(pl_module if self.criterion is None else self.criterion)
