"""The Lightning module: a network, a loss from plain values, the optimiser, and the score."""

import dataclasses
import inspect
import math
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from lossfold.train.criterion import build_criterion, check_targets
from lossfold.train.data.base import Task
from lossfold.train.errors import TrainError
from lossfold.train.evaluation import Scores, channel_counts, confusion
from lossfold.train.schedules import Schedule, schedule

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The channels' statistics that pre-trained encoders expect."""


class SegmentationModule(pl.LightningModule):
    """Train a network that scores every pixel.

    Args:
        class_names: names in the order of the labels or channels (taken from the data).
        ignore_index: label of pixels that count nowhere (taken from the data).
        network: any module from images `[B,3,H,W]` to logits `[B,C,H,W]`, by class path with init_args. An argument
            `classes` or `num_classes` is filled in. A dict with the key `out`, as torchvision returns it, is accepted.
        task: multiclass: one label a pixel, `[B,H,W]`, the largest score wins. binary: one channel, labels 0 and 1.
            multilabel: targets `[B,K,H,W]` of 0 and 1, channels may overlap. There a score above 0 says yes.
        loss: what `lossfold.build` takes: `{"type": "CEDiceLoss", "ignore_index": 255}`, or a set of named terms.
            None: cross entropy and Dice, softmax or sigmoid as the task wants.
        optimizer: any optimiser by class path; AdamW by default.
        schedule: course of the learning rate over the training: cosine, poly, linear or constant.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: any torch scheduler by class path, stepped after every optimiser step, in place of `schedule`.
        channels_last: whether the network runs in the channels-last memory format.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        class_names: list[str],
        network: nn.Module,
        task: Task = "multiclass",
        loss: dict[str, Any] | None = None,
        ignore_index: int = 255,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2),
        schedule: Schedule = "cosine",
        warmup: float = 0.05,
        lr_scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`")
            self.save_hyperparameters(logger=False)
        if "_instantiator" not in self.hparams:  # built by hand: objects, not the plain values of a command line
            for name in ("network", "optimizer", "lr_scheduler"):
                del self.hparams[name]
        else:  # the command line offers both names of the number of classes, and the network has taken one
            for name in {"classes", "num_classes"} - set(inspect.signature(type(network)).parameters):
                self.hparams["network"].get("init_args", {}).pop(name, None)
        self.class_names = class_names
        self.task = task
        self.criterion = build_criterion(loss, ignore_index, task)
        check_targets(self.criterion, task, len(class_names))
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup = warmup
        self.lr_scheduler = lr_scheduler
        self.channels_last = channels_last
        self.ignore_index = ignore_index
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.scores: Scores | None = None
        self.before: Scores | None = None
        self.scored_at = -1
        self._random_state: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Score images `[B,3,H,W]`, uint8 or floats in 0..1; returns logits `[B,C,H,W]`."""
        values = images / 255 if images.dtype == torch.uint8 else images
        values = (values - self.mean) / self.std
        if self.channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        output = self.network(values)
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        if logits.shape[1] != len(self.class_names):
            raise TrainError(
                f"model.network: {type(self.network).__name__} scores {logits.shape[1]} classes, but the data has "
                f"{len(self.class_names)}; set the network's number of classes in model.network.init_args"
            )
        return logits

    def decide(self, logits: Tensor) -> Tensor:
        """What the scores say: labels `[B,H,W]` int64, or `[B,C,H,W]` bool where channels are scored one by one."""
        return logits.argmax(1) if self.task == "multiclass" else logits > 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One batch: the total loss; every term is logged."""
        images, labels = batch
        out = self.criterion(self(images), labels)
        self.log("train/total", out.total.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in out.terms.items()})
        total: Tensor = out.total
        return total

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        classes = len(self.class_names)
        columns = classes if self.task == "multiclass" else 4
        self.counts = torch.zeros(classes, columns, dtype=torch.int64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One held-out batch: its losses, and its pixels into the counts of the score."""
        images, labels = batch
        logits = self(images)
        out = self.criterion(logits, labels)
        values = {"val/total": out.total} | {f"val/{name}": value for name, value in out.terms.items()}
        self.log_dict(values, on_epoch=True, batch_size=len(images), sync_dist=True)
        predicted = self.decide(logits)
        if self.task == "multiclass":
            self.counts += confusion(predicted, labels, len(self.class_names), self.ignore_index)
        else:
            self.counts += channel_counts(predicted, labels, self.ignore_index)

    def on_validation_epoch_end(self) -> None:
        """Score the held-out images."""
        counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        assert isinstance(counts, Tensor)
        self.scores = Scores.of(counts) if self.task == "multiclass" else Scores.of_channels(counts)
        self.scored_at = self.trainer.global_step
        named = zip(self.class_names, self.scores.iou, strict=True)
        values = {f"val/iou/{name}": value for name, value in named if value is not None}
        self.log("val/miou", self.scores.mean, prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule over all steps of the training."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is not None:
            scheduler = self.lr_scheduler(optimizer)
        else:
            steps = self.trainer.estimated_stepping_batches
            if math.isinf(steps) and self.schedule != "constant":
                raise TrainError(
                    f"model.schedule: {self.schedule!r} needs to know where the training ends; set trainer.max_epochs "
                    "or trainer.max_steps, or choose constant"
                )
            scheduler = schedule(optimizer, self.schedule, 0 if math.isinf(steps) else int(steps), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the score before the training, and the random state (dropout) of a run on one device."""
        if self.before is not None:
            checkpoint["before"] = dataclasses.asdict(self.before)
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept."""
        if "before" in checkpoint:
            self.before = Scores(**checkpoint["before"])
        self._random_state = checkpoint.get("random_state")

    def on_train_start(self) -> None:
        """Continue the random numbers of a run that is resumed."""
        if self._random_state is not None and self.trainer.world_size == 1:
            torch.set_rng_state(self._random_state.cpu())
        self._random_state = None
