"""What the Lightning modules of all tasks share: optimisers, their schedules, and what a checkpoint keeps."""

import dataclasses
import inspect
import math
import warnings
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from lossfold.adapters.lightning import AdvanceLosses
from lossfold.adapters.steps import statistics_kept
from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError
from lossfold.train.data.depth import unit
from lossfold.train.errors import TrainError
from lossfold.train.ranks import average_gradients, only_whole, unreduced
from lossfold.train.schedules import Schedule, schedule
from lossfold.train.tiles import in_windows

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The channels' statistics that pre-trained encoders expect."""

LINKED = ("classes", "num_classes", "in_channels", "scale", "image_size", "channels", "image_side")
"""Arguments that the command line offers to every network; each takes those it has."""


class TaskModule(pl.LightningModule):
    """Base of every task's module: networks, how their learning rates go, the scores before and after.

    A subclass calls `keep_hyperparameters` in its own `__init__`, sets `scores` after every evaluation, and names
    the data class of its scores.

    Args:
        schedule: course of the learning rate over the training.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: makes a torch scheduler, stepped after every optimiser step, in place of `schedule`.
        sync: whether the losses of several ranks are those of all their batches together.

    Raises:
        TrainError: the warm-up is no share.
    """

    scores_type: ClassVar[type[Any]]
    """The data class of the scores, so that a checkpoint can keep them as plain values."""
    networks: ClassVar[dict[str, str]]
    """The attributes that hold the networks, which are arguments of the same name, and what the report calls them."""
    objectives: ClassVar[dict[str, str]]
    """The attributes that hold the losses, and what the report calls them."""
    objects: ClassVar[tuple[str, ...]]
    """Arguments besides the networks that are no plain values when the module is built by hand."""

    def __init__(self, schedule: Schedule, warmup: float, lr_scheduler: LRSchedulerCallable | None, sync: bool = True) -> None:
        super().__init__()
        if not 0 <= warmup <= 1:
            raise TrainError(
                f"model.warmup must lie in 0..1, the share of the training in which the learning rate rises, got {warmup}; for "
                "500 of 10000 steps write 0.05"
            )
        self.sync = sync
        self.schedule = schedule
        self.warmup = warmup
        self.lr_scheduler = lr_scheduler
        self.scores: Any = None
        self.before: Any = None
        self.scored_at = -1
        self._random_state: Tensor | None = None
        self._cuda_random_state: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Make the losses of several ranks one, unless the user wants each rank's own, and say so.

        Raises:
            TrainError: a loss can't be split over ranks.
        """
        if self.trainer.world_size == 1:
            return
        for name, part in self.objectives.items() if self.sync else ():
            try:
                getattr(self, name).over_ranks()
            except LossError as error:
                raise TrainError(
                    f"model.{part + '_' * bool(part)}loss: {error}; --model.sync false trains with each rank's own"
                ) from error
        whose = f"those of the batches of all {self.trainer.world_size} ranks together" if self.sync else "each rank's own"
        rank_zero_info(f"The losses are {whose} (model.sync {str(self.sync).lower()}).")

    def notes(self) -> list[tuple[str, str]]:
        """What the report says of the training besides: titles and texts."""
        return []

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
        """Keep the score before the training, the random state (dropout) of a run on one device, and what predictions need."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        checkpoint["reading"] = {name: getattr(data, name, None) for name in ("max_side", "data_range", "divisor")}
        if self.before is not None:
            checkpoint["before"] = dataclasses.asdict(self.before)
        checkpoint["random_state"] = torch.get_rng_state()
        if self.device.type == "cuda":
            checkpoint["cuda_random_state"] = torch.cuda.get_rng_state(self.device)
        checkpoint["data_range"] = getattr(self.trainer.datamodule, "data_range", None)  # type: ignore[attr-defined]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept."""
        if "before" in checkpoint:
            self.before = self.scores_type(**checkpoint["before"])
        self._random_state = checkpoint.get("random_state")
        self._cuda_random_state = checkpoint.get("cuda_random_state")

    def on_train_start(self) -> None:
        """Continue the random numbers of a run that is resumed."""
        if self._random_state is not None and self.trainer.world_size == 1:
            torch.set_rng_state(self._random_state.cpu())
            if self._cuda_random_state is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._cuda_random_state.cpu(), self.device)
        self._random_state = self._cuda_random_state = None


class TrainingModule(TaskModule):
    """Base of the modules that train one network with one loss and one optimiser.

    Args:
        network: the network.
        optimizer: makes the optimiser from the parameters.
        schedule: course of the learning rate over the training.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: makes a torch scheduler, stepped after every optimiser step, in place of `schedule`.
        channels_last: whether the network runs in the channels-last memory format.
        sync: whether the losses of several ranks are those of all their batches together.
        micro_batches: how many parts a batch goes through the network in; the loss is that of the whole batch all the same.

    Raises:
        TrainError: micro_batches is no number of parts.
    """

    networks = {"network": "Network"}  # noqa: RUF012
    objectives = {"criterion": ""}  # noqa: RUF012
    objects = ("optimizer", "lr_scheduler")
    criterion: LossSet
    mean: Tensor
    std: Tensor
    tile = 1024
    """Side of the windows in which larger held-out images are seen; 0: they are seen as wholes."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule,
        warmup: float,
        lr_scheduler: LRSchedulerCallable | None,
        channels_last: bool,
        sync: bool,
        micro_batches: int,
    ) -> None:
        super().__init__(schedule, warmup, lr_scheduler, sync)
        if micro_batches < 1:
            raise TrainError(f"model.micro_batches must be at least 1, got {micro_batches}")
        self.micro_batches = micro_batches
        self.automatic_optimization = micro_batches == 1
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.optimizer = optimizer
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Images `[B,3,H,W]`, uint8 or floats in 0..1, with the statistics that encoders expect."""
        return (unit(images) - self.mean) / self.std

    def run_network(self, values: Tensor) -> Tensor:
        """Logits of the network, which may return them as a dict's `out`."""
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        output = self.network(values)
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        return logits

    def evaluated(self, *inputs: Tensor) -> Tensor:
        """What a call returns for held-out images, of any size, in the memory of a window of `tile` pixels."""
        return in_windows(self, inputs, self.tile, self.multiple, getattr(self, "scale", 1))

    @property
    def multiple(self) -> int:
        """What sides of evaluated windows are multiples of: the module's own divisor, or that of the data, which pad the images."""
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        divisor: int | None = getattr(self, "divisor", None) or getattr(data, "divisor", None)
        return divisor or 32

    def scored(self, batch: Any) -> tuple[Tensor, ...]:
        """What the loss takes of a batch: what the network says, and what that is held against."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """One batch: the total loss; every term is logged."""
        if self.micro_batches > 1:
            self.step_in_micro_batches(batch)
            return None
        out = self.criterion(*self.scored(batch))
        self.log_terms("train", out, len(batch[0]))
        total: Tensor = out.total
        return total

    def step_in_micro_batches(self, batch: Any) -> None:
        """One step of the optimiser, whose gradient is exactly the batch's, in the memory of a part of it."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        parts = list(zip(*(one.chunk(self.micro_batches) for one in batch), strict=True))
        whole = self.criterion.accumulate(rng=True, parts=len(parts))
        with torch.no_grad(), statistics_kept(self.network):
            for part in parts:
                whole.add(*self.scored(part))
        with unreduced(self.trainer.strategy):
            for part in parts:
                self.manual_backward(whole.share(*self.scored(part)))
        average_gradients(self, self.trainer.world_size)
        self.log_terms("train", whole.output, len(batch[0]))
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()

    def held_out(self, *scored: Tensor) -> Any:
        """The losses of a held-out batch, of which ranks may have unequally many."""
        with self.criterion.alone():
            return self.criterion(*scored)

    def log_terms(self, part: str, out: Any, batch_size: int) -> None:
        """Log the total and every term, in training step by step, on held-out images as means."""
        values = out.log(f"{part}/")
        if part == "train":
            self.log("train/total", values.pop("train/total"), prog_bar=True)
            self.log_dict(values)
        else:
            self.log_dict(values, on_epoch=True, batch_size=batch_size, sync_dist=True)

    def on_fit_start(self) -> None:
        """Refuse what would train something else than was asked for.

        Raises:
            TrainError: the strategy divides the parameters, whose gradients micro-batches average over the ranks.
        """
        if self.micro_batches > 1:
            only_whole(self.trainer.strategy, "model.micro_batches above 1; leave it at 1")

    def configure_callbacks(self) -> list[pl.Callback]:
        """Move the schedules and intervals of the loss with the training; its state is in the checkpoints."""
        return [AdvanceLosses()]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule over all steps of the training."""
        return self.scheduled(self.optimizer(self.parameters()))
