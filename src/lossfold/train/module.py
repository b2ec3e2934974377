"""What the Lightning modules of all tasks share: optimisers, their schedules, and what a checkpoint keeps."""

import dataclasses
import inspect
import math
import warnings
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from lossfold.adapters.lightning import AdvanceLosses
from lossfold.train.errors import TrainError
from lossfold.train.schedules import Schedule, schedule

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The channels' statistics that pre-trained encoders expect."""

LINKED = ("classes", "num_classes", "in_channels", "scale", "image_size", "channels")
"""Arguments that the command line offers to every network; each takes those it has."""


class TaskModule(pl.LightningModule):
    """Base of every task's module: networks, how their learning rates go, the scores before and after.

    A subclass calls `keep_hyperparameters` in its own `__init__`, sets `scores` after every evaluation, and names
    the data class of its scores.

    Args:
        schedule: course of the learning rate over the training.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: makes a torch scheduler, stepped after every optimiser step, in place of `schedule`.
    """

    scores_type: ClassVar[type[Any]]
    """The data class of the scores, so that a checkpoint can keep them as plain values."""
    networks: ClassVar[dict[str, str]]
    """The attributes that hold the networks, which are arguments of the same name, and what the report calls them."""
    objectives: ClassVar[dict[str, str]]
    """The attributes that hold the losses, and what the report calls them."""
    objects: ClassVar[tuple[str, ...]]
    """Arguments besides the networks that are no plain values when the module is built by hand."""

    def __init__(self, schedule: Schedule, warmup: float, lr_scheduler: LRSchedulerCallable | None) -> None:
        super().__init__()
        self.schedule = schedule
        self.warmup = warmup
        self.lr_scheduler = lr_scheduler
        self.scores: Any = None
        self.before: Any = None
        self.scored_at = -1
        self._random_state: Tensor | None = None

    def keep_hyperparameters(self) -> None:
        """Save the arguments of the caller's `__init__` in checkpoints, as far as they are plain values."""
        frame = inspect.currentframe()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`")
            self.save_hyperparameters(logger=False, frame=frame and frame.f_back)
        if "_instantiator" not in self.hparams:  # built by hand: objects, not the plain values of a command line
            modules = [name for name, value in self.hparams.items() if isinstance(value, nn.Module)]
            for name in {*self.networks, *self.objects, *modules}:
                del self.hparams[name]
                vars(self)["_hparams_initial"].pop(name, None)  # a copy, which Lightning would keep
        else:  # the command line offers every linked argument, and the network has taken those it knows
            for network in self.networks:
                for name in set(LINKED) - set(inspect.signature(type(getattr(self, network))).parameters):
                    self.hparams[network].get("init_args", {}).pop(name, None)

    def scheduled(self, optimizer: Optimizer, share: int = 1) -> OptimizerLRSchedulerConfig:
        """An optimiser with its schedule over all steps of the training, of which it takes one in `share`.

        Raises:
            TrainError: the schedule has to know where the training ends, and nothing says so.
        """
        if self.lr_scheduler is not None:
            scheduler = self.lr_scheduler(optimizer)
        else:
            steps = self.trainer.estimated_stepping_batches
            if math.isinf(steps) and self.schedule != "constant":
                raise TrainError(
                    f"model.schedule: {self.schedule!r} needs to know where the training ends; set trainer.max_epochs "
                    "or trainer.max_steps, or choose constant"
                )
            scheduler = schedule(optimizer, self.schedule, 0 if math.isinf(steps) else int(steps) // share, self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the score before the training, and the random state (dropout) of a run on one device."""
        if self.before is not None:
            checkpoint["before"] = dataclasses.asdict(self.before)
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept."""
        if "before" in checkpoint:
            self.before = self.scores_type(**checkpoint["before"])
        self._random_state = checkpoint.get("random_state")

    def on_train_start(self) -> None:
        """Continue the random numbers of a run that is resumed."""
        if self._random_state is not None and self.trainer.world_size == 1:
            torch.set_rng_state(self._random_state.cpu())
        self._random_state = None


class TrainingModule(TaskModule):
    """Base of the modules that train one network with one loss and one optimiser.

    Args:
        network: the network.
        optimizer: makes the optimiser from the parameters.
        schedule: course of the learning rate over the training.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: makes a torch scheduler, stepped after every optimiser step, in place of `schedule`.
        channels_last: whether the network runs in the channels-last memory format.
    """

    networks = {"network": "Network"}  # noqa: RUF012
    objectives = {"criterion": ""}  # noqa: RUF012
    objects = ("optimizer", "lr_scheduler")
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule,
        warmup: float,
        lr_scheduler: LRSchedulerCallable | None,
        channels_last: bool,
    ) -> None:
        super().__init__(schedule, warmup, lr_scheduler)
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.optimizer = optimizer
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Images `[B,3,H,W]`, uint8 or floats in 0..1, with the statistics that encoders expect."""
        values = images / 255 if images.dtype == torch.uint8 else images
        return (values - self.mean) / self.std

    def run_network(self, values: Tensor) -> Tensor:
        """Logits of the network, which may return them as a dict's `out`."""
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        output = self.network(values)
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        return logits

    def log_terms(self, part: str, out: Any, batch_size: int) -> None:
        """Log the total and every term, in training step by step, on held-out images as means."""
        values = out.log(f"{part}/")
        if part == "train":
            self.log("train/total", values.pop("train/total"), prog_bar=True)
            self.log_dict(values)
        else:
            self.log_dict(values, on_epoch=True, batch_size=batch_size, sync_dist=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Move the schedules and intervals of the loss with the training; its state is in the checkpoints."""
        return [AdvanceLosses()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule over all steps of the training."""
        return self.scheduled(self.optimizer(self.parameters()))
