"""The Lightning module of segmentation: a loss from plain values, what scores say, and IoU."""

import dataclasses
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lossfold.metrics import confusion
from lossfold.train.data.base import Task
from lossfold.train.errors import TrainError
from lossfold.train.module import TrainingModule
from lossfold.train.schedules import Schedule
from lossfold.train.segmentation.balance import Balance, class_counts, weigh, weights_of
from lossfold.train.segmentation.criterion import build_criterion, check_targets
from lossfold.train.segmentation.evaluation import Scores, channel_counts
from lossfold.train.segmentation.shapes import ShapeScores


class SegmentationModule(TrainingModule):
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
        sync: whether the loss of several ranks is that of all their batches together, to rounding the loss of one process;
            false: DDP averages the gradients of each rank's own loss.
        micro_batches: how many parts a batch goes through the network in, twice: the memory of a part, and the gradient of the
            whole batch, whatever the loss.
        class_weights: multiclass: weights from the training samples for the terms that are means over pixels. balanced: inversely
            proportional to a class's share; sqrt: to its square root. None: those that `loss` says.
        shape_scores: binary: score shapes as well as overlap: centreline Dice, numbers of parts, and boundaries.
    """

    scores_type = Scores

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
        sync: bool = True,
        micro_batches: int = 1,
        class_weights: Balance | None = None,
        shape_scores: bool = False,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup, lr_scheduler, channels_last, sync, micro_batches)
        self.keep_hyperparameters()
        self.class_names = class_names
        self.task = task
        self.criterion = build_criterion(loss, ignore_index, task)
        check_targets(self.criterion, task, len(class_names))
        self.ignore_index = ignore_index
        self.class_weights = class_weights
        self.weights: tuple[float, ...] | None = None
        if class_weights and task != "multiclass":
            raise TrainError("model.class_weights is for the task multiclass; give losses of channels a pos_weight in model.loss")
        if shape_scores and task != "binary":
            raise TrainError("model.shape_scores is for the task binary: one channel, whose shape is scored")
        self.shapes = ShapeScores(ignore_index) if shape_scores else None

    def setup(self, stage: str) -> None:
        """Weigh the classes, if they are to be, by what the training samples hold; see `TaskModule.setup`."""
        if self.class_weights and self.weights is None:
            samples = self.trainer.datamodule.train_set  # type: ignore[attr-defined]
            counts = class_counts(samples, len(self.class_names), self.ignore_index)
            self.weights = weights_of(counts, self.class_weights)
            weigh(self.criterion, self.weights)
        super().setup(stage)

    def notes(self) -> list[tuple[str, str]]:
        """The class weights, if any."""
        named = zip(self.class_names, self.weights or (), strict=False)
        return [("Class weights", ", ".join(f"{name} {weight:g}" for name, weight in named))] if self.weights else []

    def forward(self, images: Tensor) -> Tensor:
        """Score images `[B,3,H,W]`, uint8 or floats in 0..1; returns logits `[B,C,H,W]`."""
        logits = self.run_network(self.normalised(images))
        if logits.shape[1] != len(self.class_names):
            raise TrainError(
                f"model.network: {type(self.network).__name__} scores {logits.shape[1]} classes, but the data has "
                f"{len(self.class_names)}; set the network's number of classes in model.network.init_args"
            )
        return logits

    def decide(self, logits: Tensor) -> Tensor:
        """What the scores say: labels `[B,H,W]` int64, or `[B,C,H,W]` bool where channels are scored one by one."""
        return logits.argmax(1) if self.task == "multiclass" else logits > 0

    def scored(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Logits and labels."""
        images, labels = batch
        return self(images), labels

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        classes = len(self.class_names)
        columns = classes if self.task == "multiclass" else 4
        self.counts = torch.zeros(classes, columns, dtype=torch.int64, device=self.device)
        if self.shapes is not None:
            self.shapes.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One held-out batch: its losses, and its pixels into the counts of the score."""
        images, labels = batch
        logits = self.evaluated(images)
        self.log_terms("val", self.held_out(logits, labels), len(images))
        predicted = self.decide(logits)
        if self.task == "multiclass":
            self.counts += confusion(predicted, labels, len(self.class_names), self.ignore_index)
        else:
            self.counts += channel_counts(predicted, labels, self.ignore_index)
        if self.shapes is not None:
            self.shapes.update(predicted[:, 0].long(), labels.view(predicted[:, 0].shape))

    def on_validation_epoch_end(self) -> None:
        """Score the held-out images."""
        counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        assert isinstance(counts, Tensor)
        self.scores = Scores.of(counts) if self.task == "multiclass" else Scores.of_channels(counts)
        if self.shapes is not None:
            found = self.shapes.compute()
            self.scores = dataclasses.replace(self.scores, shapes=found)
            self.log_dict({f"val/{name}": value for name, value in found.items()})
        self.scored_at = self.trainer.global_step
        named = zip(self.class_names, self.scores.iou, strict=True)
        values = {f"val/iou/{name}": value for name, value in named if value is not None}
        self.log("val/miou", self.scores.mean, prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)
