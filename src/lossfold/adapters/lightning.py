"""Losses in Lightning: ``Trainer(callbacks=[AdvanceLosses(), ExplainLosses()])``, and ``self.log_dict(out.log("train/"))``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.utils.hooks import RemovableHandle

from lossfold.adapters.steps import advance, checked_criterion
from lossfold.compose.loss_set import LossSet
from lossfold.errors import python_scalar, wrong
from lossfold.explain import Explanation, explain


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


class ExplainLosses(pl.Callback):
    """Log, every so many steps, which term of the sets of a LightningModule pulls how much at the scores.

    Sets of several terms that are attributes of the module are found. In those steps each is called once more, without a network
    behind it, and every term differentiated by itself; what is trained does not change, random numbers included. The shares are
    logged as ``share/TERM`` (``share/SET/TERM`` where there are several sets), and :attr:`found` keeps the last explanations.

    Args:
        every: steps between two explanations.
        pictures: a folder that takes a picture of each, ``SET_STEP.png``; None: none are drawn.

    Raises:
        LossError: every is no number of steps.

    Example:
        >>> trainer = pl.Trainer(callbacks=[ExplainLosses(every=100)], max_epochs=1, logger=False, accelerator="cpu")
    """

    def __init__(self, every: int = 100, *, pictures: str | Path | None = None) -> None:
        every = python_scalar(every)
        if not isinstance(every, int) or every < 1:
            raise wrong("every", "a number of steps >= 1", repr(every))
        self.every, self.pictures = every, None if pictures is None else Path(pictures)
        self.found: dict[str, Explanation] = {}
        self.hooks: list[RemovableHandle] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Listen in the steps that are to be explained."""
        self.stop()
        if trainer.global_step % self.every:
            return
        sets = dict(outer_sets(pl_module))
        for name, criterion in sets.items():
            prefix = f"share/{name}/" if len(sets) > 1 else "share/"
            self.hooks.append(criterion.register_forward_hook(self.listener(name, prefix, trainer, pl_module), with_kwargs=True))

    def listener(self, name: str, prefix: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Return what hears a set's call, and explains the first one of a step."""
        heard: list[bool] = []

        def hear(criterion: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
            if heard or not pl_module.training:
                return
            heard.append(True)  # before it calls the set itself
            self.found[name] = found = explain(criterion, inputs, named)
            for logger in trainer.loggers:  # a module's own log() would write the value again in every step that follows
                logger.log_metrics(found.log(prefix), step=trainer.fit_loop.epoch_loop._batches_that_stepped)
            if self.pictures is not None and trainer.is_global_zero:
                self.pictures.mkdir(parents=True, exist_ok=True)
                found.picture(
                    self.pictures / f"{name}_{trainer.global_step:06d}.png", class_names=getattr(pl_module, "class_names", ())
                )

        return hear

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Listen no more."""
        self.stop()

    def stop(self) -> None:
        """Take the hooks away."""
        for hook in self.hooks:
            hook.remove()
        self.hooks = []


def outer_sets(module: nn.Module) -> Iterator[tuple[str, LossSet]]:
    """Yield the sets of several losses in a module that are in no other, with their names."""
    sets = [(path, one) for path, one in module.named_modules() if isinstance(one, LossSet)]
    inside = {id(inner) for _, one in sets for inner in one.modules() if inner is not one}  # also of those that stand before theirs
    for path, one in sets:
        if id(one) not in inside and sum(1 for _ in one.leaves()) > 1:
            yield path or type(one).__name__, one
