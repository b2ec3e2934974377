"""The Lightning module of matting: image and trimap in, alpha out, scored by SAD, MSE, Grad and Conn."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from lossfold.metrics import MattingMetrics
from lossfold.train.compared import ComparedModule
from lossfold.train.data.composites import MattingSample
from lossfold.train.errors import TrainError
from lossfold.train.matting.evaluation import MattingScores
from lossfold.train.schedules import Schedule

DEFAULT_LOSS = {"type": "MattingLoss", "alpha_link": "sigmoid"}


def build_criterion(config: dict[str, Any] | None) -> lf.LossSet:
    """Build the loss, as a set, and see that it takes `(logits, alpha, region)`.

    Args:
        config: what `lossfold.build` takes; a single loss becomes a set with the one term `loss`. None: `DEFAULT_LOSS`.

    Raises:
        LossError: the config names an unknown loss or option.
        TrainError: a term can't read alphas, or reads the network's scores as something else than logits.
    """
    loss = lf.build(config or DEFAULT_LOSS)
    criterion = loss if isinstance(loss, lf.LossSet) else lf.LossSet({"loss": loss})
    for name, term in criterion.named_modules():
        option = "alpha_link" if hasattr(term, "alpha_link") else "link"
        link = getattr(term, option, "sigmoid")
        if link != "sigmoid":
            raise TrainError(
                f"model.loss: {name or 'the loss'} ({type(term).__name__}) reads the scores through link {link!r}, but the network "
                f"gives logits of alphas; give it {option}: sigmoid, or choose a loss that has it"
            )
    half = torch.full((1, 1, 16, 16), 0.5)
    try:
        with torch.no_grad():
            criterion(torch.zeros_like(half), half, torch.ones_like(half))
    except (lf.LossError, TypeError) as error:
        raise TrainError(f"model.loss does not take (logits, alpha, region), each [B,1,H,W]: {error}") from error
    return criterion


class MattingModule(ComparedModule):
    """Train a network that finds the alpha of an image, given a trimap.

    What the trimap knows is taken from it, in evaluation and in pictures, as the field does; the loss sees what the network says.

    Args:
        network: any module from `[B,4,H,W]`, image and trimap, to logits `[B,1,H,W]`, by class path with init_args. Arguments
            `in_channels`, `classes` and `num_classes` are filled in. A dict with the key `out` is accepted.
        loss: what `lossfold.build` takes, called with (logits, alpha, region). None: `MattingLoss`, the L1 distance where the
            trimap is unknown and where it is known, Laplacian pyramid and gradients.
        optimizer: any optimiser by class path; AdamW by default.
        schedule: course of the learning rate over the training: cosine, poly, linear or constant.
        warmup: share of the training during which the learning rate rises.
        lr_scheduler: any torch scheduler by class path, stepped after every optimiser step, in place of `schedule`.
        channels_last: whether the network runs in the channels-last memory format.
        divisor: evaluated images are padded to multiples of it, as encoders with strides want, and their alphas cut to size.
        sync: whether the loss of several ranks is that of all their batches together, to rounding the loss of one process;
            false: DDP averages the gradients of each rank's own loss.
        micro_batches: how many parts a batch goes through the network in, twice: the memory of a part, and the gradient of the
            whole batch, whatever the loss.
    """

    scores_type = MattingScores
    metrics_type = MattingMetrics

    def __init__(
        self,
        network: nn.Module,
        loss: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2),
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

    def forward(self, images: Tensor, trimaps: Tensor) -> Tensor:
        """Return logits `[B,1,H,W]` for images `[B,3,H,W]`, uint8 or floats in 0..1, and trimaps `[B,1,H,W]` of 0, 0.5, 1."""
        height, width = images.shape[-2:]
        values = torch.cat([self.normalised(images), 2 * trimaps - 1], dim=1)
        if not self.training:  # in training no loss would count the padding, and what the network says beside it would be free
            values = functional.pad(values, (0, -width % self.divisor, 0, -height % self.divisor), mode="replicate")
        logits = self.run_network(values)[..., :height, :width]
        if logits.shape[1:] != trimaps.shape[1:]:
            raise TrainError(
                f"model.network: {type(self.network).__name__} returns {list(logits.shape)}, expected one channel of the image's "
                f"size, {list(trimaps.shape)}; set its number of classes to 1 in model.network.init_args"
            )
        return logits

    def estimate(self, images: Tensor, trimaps: Tensor) -> Tensor:
        """Return alphas `[B,1,H,W]` float32 in 0..1; where the trimap is known, they are its values."""
        return fill_known(self(images, trimaps), trimaps)

    def scored(self, batch: Any) -> tuple[Tensor, ...]:
        """Logits, alphas and the unknown region."""
        image, trimap, alpha = batch
        return self(image, trimap), alpha, lf.functional.region_from_trimap(trimap)

    def validation_step(self, batch: MattingSample, batch_idx: int) -> None:
        """One held-out batch: its losses, and its alphas' errors."""
        image, trimap, alpha = batch
        region, logits = lf.functional.region_from_trimap(trimap), self.evaluated(image, trimap)
        self.log_terms("val", self.held_out(logits, alpha, region), len(image))
        self.compare(fill_known(logits, trimap), lambda: trimap, alpha, region)

    def log_scores(self) -> None:
        """Log the four."""
        self.log("val/sad", self.scores.sad, prog_bar=True, sync_dist=True)
        self.log_dict({f"val/{name}": getattr(self.scores, name) for name in ("mse", "grad", "conn")}, sync_dist=True)


def fill_known(logits: Tensor, trimaps: Tensor) -> Tensor:
    """Alphas of logits where the trimap is unknown, and the trimap's own values elsewhere."""
    return torch.where(trimaps == 0.5, logits.float().sigmoid(), trimaps)
