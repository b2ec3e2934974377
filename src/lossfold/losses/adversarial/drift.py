"""What keeps a discriminator's outputs in place: near 0, or near what they have been."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from lossfold.errors import wrong
from lossfold.folds.arithmetic import buffers_apart, exactly, wide
from lossfold.losses.adversarial.gan import Outputs, as_list
from lossfold.losses.base import Loss
from lossfold.losses.reduce import Addends, divide, mean_of
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class DiscShiftLoss(Loss):
    """How far a discriminator's outputs x have drifted from 0: the mean of x².

    Args:
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, and outputs that are no floats.

    Gradient:
        Exact, 2·x / N.

    Example:
        >>> DiscShiftLoss()(torch.tensor([1.0, -3.0]))
        tensor(0.5000)

    Reference:
        Karras et al., Progressive Growing of GANs, ICLR 2018.
    """

    loss_weight: float = 0.1

    def addends(self, pred: Outputs) -> Addends:
        """Return what adds up over parts of a batch."""
        outputs = as_list("pred", pred)
        with exactly(outputs[0]):
            return mean_of([wide(x).square() for x in outputs])

    def forward(self, pred: Outputs) -> Tensor:
        """Return the loss.

        Args:
            pred: the discriminator's outputs, of any shape; or a list of them, which is averaged.

        Returns:
            A scalar, float32 (float64 for float64 outputs).
        """
        return self.weigh(self.evaluate(pred))


@LOSSES.register
@configured
class LeCamRegularizer(Loss):
    """How far a discriminator's outputs are from what it has said of the other kind: E relu(real − a_f)² + E relu(a_r − fake)².

    a_r and a_f are the moving means of its outputs for real and for generated images, a ← decay·a + (1 − decay)·mean, which this
    call's outputs move first. A list of outputs is averaged over the list, and has one pair of means.

    Args:
        decay: of the moving means, from 0 to 1.
        clipped: False leaves relu out, as the paper's formula does; the authors' code has it.
        loss_weight: a factor on the result (0.01 to 0.3 in the paper, with few images).
        inputs: where the arguments stand in one dict of outputs.

    Attributes:
        means: the moving means of real and of generated images' outputs, ``[2]``, a buffer that ``state_dict`` keeps; NaN until the
            first call in training mode that records a graph, whose means they become.

    Raises:
        LossError: for options out of range, and outputs that are no floats.

    Gradient:
        Exact for the outputs; none through the moving means; 0 behind relu's.

    Example:
        >>> loss = LeCamRegularizer(clipped=False)
        >>> loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0]))  # the means become 2 and 0: (1 + 9) / 2 + 4
        tensor(9.)

    Reference:
        Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, CVPR 2021.
    """

    decay: float = option(0.99, between=(0, 1))
    clipped: bool = option(True)

    rounds: ClassVar[int] = 2
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"clipped": False},)

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        if "means" not in self._buffers:
            with torch.inference_mode(False):
                self.register_buffer("means", torch.full((2,), torch.nan, dtype=torch.float64))

    def addends(self, real: Outputs, fake: Outputs) -> Addends:
        """Return what adds up over parts of a batch: the sums of both kinds' outputs first, then the costs about the means."""
        kinds = [[wide(x) for x in as_list(name, outputs)] for name, outputs in (("real", real), ("fake", fake))]
        if kinds[0][0].device != kinds[1][0].device:
            raise wrong("fake", f"on real's device {kinds[0][0].device}", str(kinds[1][0].device))
        before = self.get_buffer("means")
        sums = torch.stack([torch.stack([x.detach().sum(dtype=before.dtype) for x in xs]).sum() for xs in kinds])
        counts = torch.stack([sums.new_full((), sum(x.numel() for x in xs)) for xs in kinds])

        def costs_of(sums: Tensor, counts: Tensor) -> Addends:
            now = divide(sums, counts)
            there = counts != 0  # no outputs say nothing of a mean
            moved = torch.where(there, torch.where(before.isnan(), now, before + (1 - self.decay) * (now - before)), before)
            self.move(moved)
            about = moved if self.training else torch.where(before.isnan(), now, before)
            of_real, of_fake = torch.where(about.isnan() & ~there, 0.0, about).detach()
            with exactly(kinds[0][0]):
                away = [[x - of_fake.to(x.dtype) for x in kinds[0]], [of_real.to(x.dtype) - x for x in kinds[1]]]
                costs = [[(x.relu() if self.clipped else x).square() for x in xs] for xs in away]
            shares = [1 / len(xs) for xs in costs for _ in xs]
            return mean_of([cost for xs in costs for cost in xs], shares)

        return Addends((sums, counts), costs_of)

    def move(self, moved: Tensor) -> None:
        """Take new moving means, of outputs that did not overflow."""
        means = self.get_buffer("means")
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                means.copy_(torch.where(moved.isfinite(), moved, means))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        with buffers_apart(self, fn, "means"):
            super()._apply(fn, recurse)
        return self

    def forward(self, real: Outputs, fake: Outputs) -> Tensor:
        """Return the loss.

        Args:
            real: the discriminator's outputs for real images, of any shape; or a list of them.
            fake: those for generated ones.

        Returns:
            A scalar, float32 (float64 for float64 outputs).
        """
        return self.weigh(self.evaluate(real, fake))
