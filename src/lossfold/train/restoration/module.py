"""The Lightning module of restoration: a degraded image in, a clean one out, scored by PSNR and SSIM."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from lossfold.train.compared import ComparedModule
from lossfold.train.criteria import comparing
from lossfold.train.data.depth import unit
from lossfold.train.data.restoration import RestorationSample
from lossfold.train.errors import TrainError
from lossfold.train.nets import enlarged
from lossfold.train.restoration.evaluation import FiniteMetrics, RestorationScores
from lossfold.train.schedules import Schedule

DEFAULT_LOSS = {
    "type": "LossSet",
    "charbonnier": {"type": "CharbonnierLoss", "eps": 1e-6},
    "ssim": {"type": "SSIMLoss", "loss_weight": 0.1},
}

TRIED = 192
"""Side of the images that a loss is tried with: enough for five scales of MS-SSIM."""


def build_criterion(config: dict[str, Any] | None) -> lf.LossSet:
    """Build the loss, as a set, and see that it takes `(pred, target)`.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`. None: `DEFAULT_LOSS`.

    Raises:
        LossError: the config names an unknown loss or option.
        TrainError: a term can't read images.
    """
    grey = torch.full((1, 3, TRIED, TRIED), 0.5)
    gives, takes = "the network gives images in 0..1", "[B,3,H,W] in 0..1"
    return comparing(config or DEFAULT_LOSS, gives, takes, torch.full_like(grey, 0.4), grey)


class RestorationModule(ComparedModule):
    """Train a network that restores or enlarges images.

    The loss sees what the network says; metrics and pictures see it cut to 0..1.

    Args:
        scale: how many times larger the result is than the image (taken from the data).
        network: any module from images `[B,3,H,W]` in 0..1 to images `[B,3,scale*H,scale*W]`, by class path with init_args.
            Arguments `scale`, `in_channels`, `classes` and `num_classes` (both 3) are filled in. A dict with the key `out` is
            accepted.
        loss: what `lossfold.build` takes, called with (pred, target). None: Charbonnier and a tenth of SSIM.
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

    scores_type = RestorationScores
    metrics_type = FiniteMetrics

    def __init__(
        self,
        scale: int,
        network: nn.Module,
        loss: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4),
        schedule: Schedule = "cosine",
        warmup: float = 0.05,
        lr_scheduler: LRSchedulerCallable | None = None,
        channels_last: bool = False,
        divisor: int = 32,
        sync: bool = True,
        micro_batches: int = 1,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup, lr_scheduler, channels_last, sync, micro_batches, divisor=divisor)
        self.keep_hyperparameters()
        self.criterion = build_criterion(loss)
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """Return images `[B,3,scale*H,scale*W]` float32, about 0..1, for images `[B,3,H,W]`, uint8 or floats in 0..1."""
        values = unit(images)
        height, width = images.shape[-2:]
        if not self.training:
            values = functional.pad(values, (0, -width % self.divisor, 0, -height % self.divisor), mode="replicate")
        result = self.run_network(values).float()
        expected = [len(images), 3, *(self.scale * side for side in values.shape[-2:])]
        if list(result.shape) != expected:
            raise TrainError(
                f"model.network: {type(self.network).__name__} returns {list(result.shape)} for images {list(values.shape)}, "
                f"expected {expected}: three channels at {self.scale} times the size; set them in model.network.init_args"
            )
        cut: Tensor = result[..., : self.scale * height, : self.scale * width]
        return cut

    def restore(self, images: Tensor) -> Tensor:
        """Return restored images `[B,3,scale*H,scale*W]` float32 in 0..1."""
        result: Tensor = self(images).clamp(0, 1)
        return result

    def scored(self, batch: Any) -> tuple[Tensor, ...]:
        """Images and what they should be, in 0..1."""
        image, target = batch
        return self(image), unit(target)

    def validation_step(self, batch: RestorationSample, batch_idx: int) -> None:
        """One held-out batch: its losses, PSNR and SSIM."""
        image, target = batch[0], unit(batch[1])
        result = self.evaluated(image)
        self.log_terms("val", self.held_out(result, target), len(image))
        self.compare(result.clamp(0, 1), lambda: as_target(image, self.scale), target)

    def log_scores(self) -> None:
        """Log PSNR and SSIM."""
        self.log("val/score/psnr", self.scores.psnr, prog_bar=True, sync_dist=True)
        self.log("val/score/ssim", self.scores.ssim, sync_dist=True)


def as_target(images: Tensor, scale: int) -> Tensor:
    """Degraded images `[B,3,H,W]` at the targets' size, bicubic: what no network should be worse than. In 0..1."""
    return enlarged(unit(images), scale).clamp(0, 1)
