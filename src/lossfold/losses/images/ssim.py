"""Losses of structural similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import total
from lossfold.folds.checks import result_dtype
from lossfold.folds.fold import Fold
from lossfold.folds.pair.needs import check_pair, check_weights
from lossfold.folds.window.needs import WindowGiven, WindowNeeds, inside, with_channel
from lossfold.folds.window.spec import LINKS, PADDINGS, WINDOWS, WindowSpec
from lossfold.losses.image_loss import ImageLoss
from lossfold.losses.pixels import one_pass_will_do
from lossfold.losses.reduce import Ratio, divide
from lossfold.options import configured, option
from lossfold.registry import LOSSES

MOST_TAPS = 63


@configured
class WindowLoss(ImageLoss):
    """A loss over the window fold: the options that all of them have."""

    window_size: int = option(11, between=(1, 63), odd=True)
    sigma: float = option(1.5, between=(1e-6, 1e12))
    k1: float = option(0.01, between=(1e-6, 1e12))
    k2: float = option(0.03, between=(1e-6, 1e12))
    data_range: float = option(1.0, between=(1e-6, 1e12))
    padding: str = option("valid", words=PADDINGS)
    window: str = option("gaussian", words=WINDOWS)
    link: str = option("identity", words=LINKS)
    validate: bool = option(False)

    scales: ClassVar[int] = 1

    def check(self, pred: Any, target: Any, weight: Any = None) -> WindowGiven:
        """Refuse what can't be folded, or does not fit the options."""
        pred, target = check_pair(pred, target)
        shape = tuple(pred.shape)
        smallest = self.smallest_side
        if len(shape) not in (4, 5) or min(shape[2:]) < smallest:
            at = f"{self.scales} scales of " if self.scales > 1 else ""
            hint = (
                "the batch dimension is required: pred[None]"
                if len(shape) == 3
                else f"for {at}a {'x'.join([str(self.window_size)] * max(2, len(shape) - 2))} window, padding={self.padding!r}"
            )
            expected = f"[B, C, H, W] or [B, C, D, H, W] with sides of at least {smallest}"
            raise wrong("pred", expected, f"a tensor {list(shape)}", hint)
        return WindowGiven(pred, target, None if weight is None else check_weights("weight", weight, pred))

    @property
    def smallest_side(self) -> int:
        """What a side must have, so that the window fits at every scale, and reflected borders do."""
        least = {"valid": self.window_size, "reflect": self.window_size // 2 + 1, "zeros": 1}[self.padding]
        return int(least * 2 ** (self.scales - 1))

    def needs(self, given: WindowGiven | None = None) -> WindowNeeds:
        """Return the fold that the formula reads."""
        numbers = float(self.sigma), float(self.k1), float(self.k2), float(self.data_range)
        spec = WindowSpec(self.window_size, *numbers, self.padding, self.scales, (self.scales - 1,), self.window, self.link)
        return WindowNeeds(spec, self.engine, validate=self.validate)

    def ready_at_once(self, given: WindowGiven) -> WindowNeeds | None:
        """Return what makes a pass for value and gradient, None where none will do."""
        if not self.one_pass or self.apart or not one_pass_will_do(given.pred, self.loss_weight, few=0):
            return None
        needs = self.needs(given)
        return needs if needs.has_once(given) else None

    def found_at_once(self, given: WindowGiven, of_ssim: float, of_difference: float = 0.0) -> Tensor | None:
        """Return factors times the mean (or sum) of SSIM's errors and of absolute differences, if one pass finds the gradient."""
        needs = self.ready_at_once(given)
        if needs is None:
            return None
        pred, channels = given.pred, given.pred.shape[1]
        above = torch.stack([pred.new_full((channels,), one, dtype=torch.float64) for one in (of_ssim, of_difference)])
        if self.reduction == "mean":
            above = divide(above, torch.stack([counted(given, inset) for inset in (needs.spec.inset, 0)])[:, None])
        return needs.once(given, above)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: images ``[B, C, H, W]`` or volumes ``[B, C, D, H, W]`` (their logits with ``link="sigmoid"``); float16, bfloat16,
                float32 or float64.
            target: of the same shape.
            weight: ``[B, 1, *S]``, ``[B, C, *S]`` or ``[B, *S]``, float >= 0 or bool: of the window around each pixel.

        Returns:
            A scalar, float32 (float64 for float64 predictions); see ``reduction``.
        """
        return self.weigh(self.evaluate(pred, target, weight))


def counted(given: WindowGiven, inset: int) -> Tensor:
    """Return Σ w over images' pixels and channels, less so many rows and columns at each border."""
    pred, weight = given.pred, given.weight
    if weight is None:
        count = math.prod(pred.shape[:2]) * math.prod(side - 2 * inset for side in pred.shape[2:])
        return pred.new_full((), count, dtype=torch.float64)
    weight = inside(with_channel(weight, pred), inset)
    return pred.shape[1] / weight.shape[1] * total(weight.to(result_dtype(pred)).flatten(1)).sum()


@LOSSES.register
@configured
class SSIMLoss(WindowLoss):
    """One minus the structural similarity, Σ w·(1 − SSIM) / Σ w over all places of a Gaussian window.

    SSIM = (2·μp·μt + c1)(2·σpt + c2) / ((μp² + μt² + c1)(σp² + σt² + c2)), c1 = (k1·data_range)², c2 = (k2·data_range)², of each
    channel by itself. Computed from sums and differences of the images, exactly 0 where they are equal.

    Args:
        window_size: the window's side, odd.
        sigma: the window's standard deviation, in pixels.
        k1: SSIM's constant beside means.
        k2: SSIM's constant beside variances.
        data_range: the difference of the largest and the smallest possible value: 1 for images in [0, 1], 2 for [-1, 1]. A target
            whose values span more than one and a half of it is refused.
        padding: "valid" puts the window where it fits, as Wang et al. do; "reflect" and "zeros" around every pixel.
        window: "gaussian", or "uniform", whose weights are equal.
        link: "identity" takes ``pred`` as it is, "sigmoid" takes its sigmoid.
        reduction: "mean", "sum", or "none": a weighted value for each place, ``[B, C, h, w]``.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        validate: look for wrong values off the CPU too, which waits for the device: a target of another range.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve. Volumes are eager's.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range, and for images smaller than the window.

    Gradient:
        Exact; 0 where the images are equal around a pixel, and where nothing counts. None for targets in the cpp engine (the eager
        one serves where the target requires a gradient).

    Example:
        >>> SSIMLoss()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
        tensor(0.)

    Reference:
        Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE Trans. Image Processing 2004.
    """

    linear: ClassVar[bool] = True
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"window_size": 7, "sigma": 1.0, "data_range": 2.0, "padding": "reflect"},
    )

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over its fold, so that a set may make the pass for it."""
        return self.reduction != "none"

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return Σ w (1 - SSIM) and Σ w."""
        return Ratio(fold["ssim_error", 0.0], fold["weight", 0.0])

    def at_once(self, given: WindowGiven) -> Tensor | None:
        """Return the loss where one pass finds value and gradient."""
        return self.found_at_once(given, 1.0)

    def direct(self, given: WindowGiven) -> Tensor:
        """Return the loss's map."""
        self.check_map()
        return self.needs().integrate(given)


@LOSSES.register
@configured
class MSSSIMLoss(WindowLoss):
    """One minus the multi-scale structural similarity, the mean over samples and channels of 1 − Π_s c_s^beta_s · SSIM_S^beta_S.

    c is SSIM's part of contrast and structure, at each scale the mean over all places of the window; each scale's images are the
    means of 2x2 blocks of those before, volumes' of 2x2x2 (an odd side is cut by one). The last scale has the whole SSIM. A
    negative mean counts as 0.

    Args:
        betas: the scales' exponents, from the finest to the coarsest.
        reduction: "mean", "sum", or "none": the loss of each sample and channel, ``[B, C]``.
        sample_wise: a sample in which nothing counts has the loss 0, and the loss is the mean over all samples; without it the
            mean is over the samples and channels in which something counts.
        window_size, sigma, k1, k2, data_range, padding, window, link, validate, engine, loss_weight, inputs: as for
            :class:`SSIMLoss`.

    Raises:
        LossError: as for :class:`SSIMLoss`; for images in which the window does not fit at the last scale (with the defaults a side
            needs 176).

    Gradient:
        Exact; 0 for a sample and channel with a negative mean at some scale.

    Example:
        >>> MSSSIMLoss()(torch.zeros(1, 3, 192, 192), torch.zeros(1, 3, 192, 192))
        tensor(0.)

    Reference:
        Wang et al., Multiscale structural similarity for image quality assessment, Asilomar 2003.
    """

    of_each: ClassVar[bool] = True

    betas: Sequence[float] = option((0.0448, 0.2856, 0.3001, 0.2363, 0.1333), count=(1, 16), more_than=0, at_most=1e3)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"betas": (0.3, 0.7)},
        {"betas": (0.2, 0.3, 0.5), "window_size": 5, "padding": "zeros"},
    )

    @property
    def scales(self) -> int:  # type: ignore[override]
        """How many scales there are."""
        return len(self.betas)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the loss of each sample and channel, 0 where nothing counts at some scale, and whether something does."""
        product = counts = torch.ones_like(fold["weight", 0.0])
        for scale, beta in enumerate(self.betas):
            kind = "ssim_error" if scale == len(self.betas) - 1 else "contrast_error"
            weight = fold["weight", float(scale)]
            alike = 1 - divide(fold[kind, float(scale)], weight)
            product = product * torch.where(alike <= 0, 0.0, torch.where(alike <= 0, 1.0, alike) ** beta)  # a NaN stays one
            counts = counts * (weight != 0)
        return Ratio(torch.where(counts > 0, 1 - product, 0.0), counts)
