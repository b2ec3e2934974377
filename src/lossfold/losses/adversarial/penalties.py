"""Penalties on the gradient of a discriminator with respect to its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.folds.pair.needs import check_beside
from lossfold.losses.adversarial.gan import as_list
from lossfold.losses.adversarial.slopes import differentiating, outside_graphs, reads_float32, root, slope
from lossfold.losses.base import Loss
from lossfold.losses.reduce import Addends, Last
from lossfold.options import configured, option
from lossfold.registry import LOSSES

Discriminator = Callable[[Tensor], Tensor | Sequence[Tensor]]


@configured
class GradientPenalty(Loss):
    """A cost of g = ∇ₓ Σ D(x), at every pixel or for every sample.

    A discriminator that returns a list of outputs has a gradient for each; the penalty is their mean. Autocast is switched off
    inside, so that scaled and half-precision trainings have the penalty of float32.
    """

    norm_mode: str = option("pixel", words=("pixel", "HWC"))

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"norm_mode": "HWC"})

    @staticmethod
    def cost(squares: Tensor) -> Tensor:
        """Return what squared norms cost."""
        return squares

    def of(self, discriminator: Discriminator, argument: str, images: Tensor, mask: Tensor | None) -> Addends:
        """Return what adds up of the penalty at checked images."""
        found = [self.of_gradient(g, mask) for g in gradients(discriminator, argument, images)]
        above, below = (torch.stack(sums) for sums in zip(*found, strict=True))
        return Last(above / len(found), below).addends(above.dtype)

    def of_gradient(self, gradient: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the penalty of one gradient ``[B, C, *S]`` over what; what the mask ``[B, 1, *S]`` leaves out counts nothing."""
        if mask is not None:
            mask = mask.to(gradient.dtype)
            gradient = torch.where(mask > 0, gradient, 0.0)
        if self.norm_mode == "HWC":
            seen = gradient if mask is None else gradient * mask
            counted = None if mask is None else (mask > 0).flatten(1).any(1).to(gradient.dtype)
            values = self.cost(seen.square().flatten(1).sum(1))
        else:
            counted = None if mask is None else mask[:, 0]
            values = self.cost(gradient.square().sum(1))
        if counted is None:
            return values.sum(), values.new_full((), values.numel())
        return (values * counted).sum(), counted.sum()


@LOSSES.register
@configured
class GradientPenaltyLoss(GradientPenalty):
    """WGAN-GP's penalty: the mean of (‖g‖ − 1)², g = ∇ₓ Σ D(x) at x = u·real + (1 − u)·fake, u uniform for each sample.

    With a mask m it is Σ m·(‖g‖ − 1)² / Σ m over pixels, or (‖g·m‖ − 1)² for each sample in which something counts.

    Args:
        norm_mode: ‖g‖ over the channels of each pixel ("pixel"), or over all of a sample ("HWC", as in the paper).
        loss_weight: a factor on the result (10 in the paper).
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, images and masks that do not fit together, and a discriminator whose outputs do not
            depend on its images.

    Gradient:
        Exact, to any order, for the discriminator's parameters and for images that require one; 0 where g is.

    Example:
        >>> loss = GradientPenaltyLoss(norm_mode="HWC")
        >>> loss(lambda x: 3 * x.sum((1, 2, 3)) / 8, torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8))  # (√64·3/8 − 1)²
        tensor(4.)

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017; the mask: Yu et al., Generative Image Inpainting
        with Contextual Attention, CVPR 2018.
    """

    @staticmethod
    def cost(squares: Tensor) -> Tensor:
        """Return what squared norms cost."""
        return (root(squares) - 1).square()

    def addends(self, discriminator: Discriminator, real: Tensor, fake: Tensor, mask: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch."""
        mask = checked_images("real", real, mask)
        checked_images("fake", fake, None)
        if fake.shape != real.shape:
            raise wrong("fake", f"of real's shape {list(real.shape)}", str(list(fake.shape)))
        if fake.device != real.device:
            raise wrong("fake", f"on real's device {real.device}", str(fake.device))
        dtype = torch.promote_types(real.dtype, fake.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        share = torch.rand((len(real), *[1] * (real.dim() - 1)), dtype=wide, device=real.device)
        between = real * share + fake * (1 - share)
        return self.of(discriminator, "real", between if reads_float32(discriminator, real) else between.to(dtype), mask)

    def forward(self, discriminator: Discriminator, real: Tensor, fake: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the penalty.

        Args:
            discriminator: a module, or any function of images.
            real: images ``[B, C, *S]``, or vectors ``[B, C]``.
            fake: generated ones, of the same shape; detached, unless the generator is to learn from the penalty.
            mask: ``[B, 1, *S]`` or ``[B, *S]``, bool or >= 0: what counts.

        Returns:
            A scalar, float32 (float64 where the discriminator's gradient is).
        """
        return self.weigh(self.evaluate(discriminator, real, fake, mask))


@LOSSES.register
@configured
class R1GradientPenalty(GradientPenalty):
    """R1: the mean over pixels (or over samples) of ‖g‖², g = ∇ₓ Σ D(x) at real images.

    There is no ½: the paper's γ/2 is ``loss_weight``. With a mask m it is Σ m·‖g‖² / Σ m over pixels, or the mean of ‖g·m‖² over
    the samples in which something counts.

    Args:
        norm_mode: the mean over pixels of the squares summed over channels ("pixel"), or over samples of all their squares ("HWC",
            as in the paper; larger by the number of pixels).
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: as for :class:`GradientPenaltyLoss`.

    Gradient:
        Exact, to any order, for the discriminator's parameters and for images that require one.

    Example:
        >>> R1GradientPenalty()(lambda x: 3 * x.sum((1, 2, 3)), torch.rand(2, 1, 8, 8))
        tensor(9.)

    Reference:
        Mescheder et al., Which Training Methods for GANs do actually Converge?, ICML 2018.
    """

    def addends(self, discriminator: Discriminator, real: Tensor, mask: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch."""
        mask = checked_images("real", real, mask)
        return self.of(discriminator, "real", real, mask)

    def forward(self, discriminator: Discriminator, real: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the penalty.

        Args:
            discriminator: a module, or any function of images.
            real: images ``[B, C, *S]``, or vectors ``[B, C]``.
            mask: ``[B, 1, *S]`` or ``[B, *S]``, bool or >= 0: what counts.

        Returns:
            A scalar, float32 (float64 where the discriminator's gradient is).
        """
        return self.weigh(self.evaluate(discriminator, real, mask))


@LOSSES.register
@configured
class R2GradientPenalty(GradientPenalty):
    """R2: as R1, the mean over pixels (or over samples) of ‖g‖², at generated images.

    Args:
        norm_mode, loss_weight, inputs: as for :class:`R1GradientPenalty`.

    Raises:
        LossError: as for :class:`GradientPenaltyLoss`.

    Gradient:
        As that of :class:`R1GradientPenalty`; detach the images, unless the generator is to learn from the penalty.

    Example:
        >>> R2GradientPenalty(norm_mode="HWC")(lambda x: 3 * x.sum((1, 2, 3)), torch.rand(2, 1, 8, 8))
        tensor(576.)

    Reference:
        Mescheder et al., Which Training Methods for GANs do actually Converge?, ICML 2018.
    """

    def addends(self, discriminator: Discriminator, fake: Tensor, mask: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch."""
        mask = checked_images("fake", fake, mask)
        return self.of(discriminator, "fake", fake, mask)

    def forward(self, discriminator: Discriminator, fake: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the penalty.

        Args:
            discriminator: a module, or any function of images.
            fake: generated images ``[B, C, *S]``, or vectors ``[B, C]``.
            mask: ``[B, 1, *S]`` or ``[B, *S]``, bool or >= 0: what counts.

        Returns:
            A scalar, float32 (float64 where the discriminator's gradient is).
        """
        return self.weigh(self.evaluate(discriminator, fake, mask))


def checked_images(argument: str, images: object, mask: object) -> Tensor | None:
    """Refuse images and a mask that do not fit together; return the mask as ``[B, 1, *S]``."""
    if not isinstance(images, Tensor) or images.dtype not in SCORE_DTYPES or images.dim() < 2:
        raise wrong(argument, "images [B, C, *S] or vectors [B, C] of floats", describe(images))
    if mask is None:
        return None
    batch, _, *space = images.shape
    check_beside("mask", mask, images, ((batch, 1, *space), (batch, *space)), argument)
    assert isinstance(mask, Tensor)
    return mask if mask.dim() == images.dim() else mask.unsqueeze(1)


@outside_graphs  # which can't follow a gradient in the forward pass
def gradients(discriminator: Discriminator, argument: str, images: Tensor) -> list[Tensor]:
    """Return the gradient of the sum of each of a discriminator's outputs with respect to images; its graph, if one is wanted."""
    if not callable(discriminator):
        raise wrong("discriminator", "a module, or a function of images", describe(discriminator))
    with differentiating(discriminator, images) as (images, graph):
        outputs = as_list("discriminator", discriminator(images))
        found = [slope(output.sum(), images, graph) for output in outputs]
    for gradient in found:
        if gradient is None:
            raise wrong("discriminator", f"one whose outputs depend on {argument}", "outputs without a gradient for it")
    return [gradient for gradient in found if gradient is not None]
