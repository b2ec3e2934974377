"""The Lightning module of depth: a photograph in, the distance of each pixel out, scored by AbsRel, RMSE and δ1."""

import dataclasses
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from lossfold.metrics import DepthMetrics
from lossfold.train.compared import ComparedModule
from lossfold.train.criteria import comparing
from lossfold.train.data.depth_maps import DepthSample
from lossfold.train.depth.evaluation import DepthScores
from lossfold.train.errors import TrainError
from lossfold.train.schedules import Schedule

DEFAULT_LOSS = {
    "type": "LossSet",
    "silog": {"type": "SILogLoss", "variance_focus": 0.5},
    "invariant": {"type": "ScaleShiftInvariantLoss", "data": "l1", "loss_weight": 0.1},
}

STEEPEST = 5.0
"""How far, as a power of e, a depth may be from the typical one: what an untrained network says stays finite."""


def build_criterion(config: dict[str, Any] | None) -> lf.LossSet:
    """Build the loss, as a set, and see that it takes `(pred, target)`.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`. None: `DEFAULT_LOSS`.

    Raises:
        LossError: the config names an unknown loss or option.
        TrainError: a term can't read depths.
    """
    depth = torch.linspace(1, 2, 64 * 64).reshape(1, 1, 64, 64)
    return comparing(config or DEFAULT_LOSS, "the module gives depths", "[B,1,H,W], depths above 0", depth + 0.1, depth)


class DepthModule(ComparedModule):
    """Train a network that estimates depth.

    Its output x stands for the depth typical·exp(x), which is above 0 and has no scale to learn.

    Args:
        typical: the depth that a network which says 0 stands for: the geometric mean of what trains (taken from the data).
        network: any module from images `[B,3,H,W]` to `[B,1,H,W]`, by class path with init_args. Arguments `in_channels`,
            `classes` and `num_classes` (1) are filled in. A dict with the key `out` is accepted.
        loss: what `lossfold.build` takes, called with (pred, target). None: SILog and a tenth of the invariant loss.
        optimizer: any optimiser by class path; AdamW by default.
        schedule: course of the learning rate over the training: cosine, poly, linear or constant.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: any torch scheduler by class path, stepped after every optimiser step, in place of `schedule`.
        channels_last: whether the network runs in the channels-last memory format.
        divisor: evaluated images are padded to multiples of it, as encoders with strides want, and the results cut to size.
        sync: whether the loss of several ranks is that of all their batches together, to rounding the loss of one process;
            false: DDP averages the gradients of each rank's own loss.
        micro_batches: how many parts a batch goes through the network in, twice: the memory of a part, and the gradient of the
            whole batch, whatever the loss.
    """

    scores_type = DepthScores
    metrics_type = DepthMetrics

    def __init__(
        self,
        typical: float,
        network: nn.Module,
        loss: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2),
        schedule: Schedule = "cosine",
        warmup: float = 0.05,
        lr_scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
        divisor: int = 32,
        sync: bool = True,
        micro_batches: int = 1,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup, lr_scheduler, channels_last, sync, micro_batches, divisor=divisor)
        if not typical > 0:
            raise TrainError(f"model.typical must be above 0, got {typical}")
        self.keep_hyperparameters()
        self.criterion = build_criterion(loss)
        self.typical = typical

    def forward(self, images: Tensor) -> Tensor:
        """Return depths `[B,1,H,W]` float32 for images `[B,3,H,W]`, uint8 or floats in 0..1."""
        height, width = images.shape[-2:]
        values = self.normalised(images)
        if not self.training:
            values = functional.pad(values, (0, -width % self.divisor, 0, -height % self.divisor), mode="replicate")
        result = self.run_network(values).float()
        expected = [len(images), 1, *values.shape[-2:]]
        if list(result.shape) != expected:
            raise TrainError(
                f"model.network: {type(self.network).__name__} returns {list(result.shape)} for images {list(values.shape)}, "
                f"expected {expected}: one channel at the image's size; set it in model.network.init_args"
            )
        depth: Tensor = self.typical * result[..., :height, :width].clamp(-STEEPEST, STEEPEST).exp()
        return depth

    def scored(self, batch: Any) -> tuple[Tensor, ...]:
        """Depths, and what was measured."""
        image, target = batch
        return self(image), target

    def validation_step(self, batch: DepthSample, batch_idx: int) -> None:
        """One held-out batch: its losses and its errors."""
        image, target = batch
        result = self.evaluated(image)
        self.log_terms("val", self.held_out(result, target), len(image))
        self.compare(result, lambda: torch.full_like(target, self.typical), target)

    def log_scores(self) -> None:
        """Log each of them."""
        for name, value in dataclasses.asdict(self.scores).items():
            self.log(f"val/score/{name}", value, prog_bar=name == "abs_rel", sync_dist=True)
