"""Metrics of restored and enlarged images: PSNR and SSIM of each image, as functions and over many batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import LossError, is_number, naming, python_scalar
from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.checks import SCORE_DTYPES, plain
from lossfold.folds.collect import collect
from lossfold.folds.fold import describe
from lossfold.folds.looks import can_look, refuse_another_range
from lossfold.losses.images.ssim import SSIMLoss
from lossfold.metrics.accumulators import Means
from lossfold.metrics.counts import check_metrics, check_option


@torch.no_grad()
def psnr(
    pred: Tensor, target: Tensor, data_range: float = 1.0, crop_border: int = 0, to_y: bool = False, validate: bool = False
) -> Tensor:
    """Return the peak signal-to-noise ratio in decibels: ``10 log10(data_range^2 / mean (pred - target)^2)``.

    The mean is over all channels and pixels of an image. Papers on super-resolution take the luma alone, without a border of
    ``scale`` pixels: ``to_y=True, crop_border=scale``.

    Args:
        pred: images ``[B, C, H, W]``, floats.
        target: true images of the same shape.
        data_range: the difference between white and black: 1, or 255 for floats from 0 to 255. A target whose values span more than
            one and a half of it is refused, on CPUs.
        crop_border: so many pixels at each edge do not count.
        to_y: compare the luma of RGB images, ``(65.481 R + 128.553 G + 24.966 B) / 255 + 16 / 255`` of white (BT.601).
        validate: look at the target elsewhere too, which waits for the device.

    Returns:
        float64 ``[B]`` without a gradient, ``inf`` where the two are equal.

    Raises:
        LossError: for wrong dtypes, shapes or devices, or a ``data_range`` that is not above 0.

    Example:
        >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)).round(decimals=4)
        tensor([20.], dtype=torch.float64)
    """
    (pred, target), data_range = plain((pred, target)), python_scalar(data_range)
    check("psnr", pred, target, data_range, validate)
    return _psnr(*compared("psnr", pred, target, data_range, python_scalar(crop_border), python_scalar(to_y)), data_range)


@torch.no_grad()
def ssim(
    pred: Tensor,
    target: Tensor,
    data_range: float = 1.0,
    window_size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    crop_border: int = 0,
    to_y: bool = False,
    validate: bool = False,
) -> Tensor:
    """Return the structural similarity, the mean over the channels and over the pixels whose window lies inside the image.

    With means, variances and the covariance weighted by a Gaussian window, at each pixel
    ``(2 m_p m_t + c1) (2 s_pt + c2) / ((m_p^2 + m_t^2 + c1) (s_p + s_t + c2))``, with ``c1 = (k1 data_range)^2`` and
    ``c2 = (k2 data_range)^2``.

    Args:
        pred, target, data_range, crop_border, to_y, validate: as for :func:`psnr`; what counts is at least as large as the window.
        window_size: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
        k1: what keeps the means' ratio stable.
        k2: what keeps the variances' ratio stable.

    Returns:
        float64 ``[B]`` without a gradient, 1 where the two are equal.

    Raises:
        LossError: as for :func:`psnr`, and as :class:`lossfold.SSIMLoss` for the window.

    Example:
        >>> image = torch.rand(1, 3, 32, 32)
        >>> ssim(image, image), ssim(image, 1 - image) < 0
        (tensor([1.], dtype=torch.float64), tensor([True]))

    Reference:
        Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004.
    """
    (pred, target), data_range = plain((pred, target)), python_scalar(data_range)
    check("ssim", pred, target, data_range, validate)
    pred, target = compared("ssim", pred, target, data_range, python_scalar(crop_border), python_scalar(to_y))
    return _ssim(pred, target, data_range, window_size=window_size, sigma=sigma, k1=k1, k2=k2)


class RestorationMetrics(Means):
    """PSNR and SSIM over many batches: the means of the images' values, as the field has it.

    Args:
        metrics: which of ``"psnr"``, ``"ssim"``.
        data_range, crop_border, to_y, validate: as for :func:`psnr`.

    ``compute()`` returns a dict of float64 scalars; NaN before any image. A single image that is exactly right makes the mean
    PSNR ``inf``.

    Raises:
        LossError: for unknown metrics, and as for :func:`psnr` and :func:`ssim`.

    Example:
        >>> score = RestorationMetrics()
        >>> for level in (0.1, 0.01):
        ...     score.update(torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), level))
        >>> round(score.compute()["psnr"].item(), 3)
        30.0
    """

    def __init__(
        self,
        metrics: Sequence[str] = ("psnr", "ssim"),
        data_range: float = 1.0,
        crop_border: int = 0,
        to_y: bool = False,
        validate: bool = False,
    ) -> None:
        check_metrics("RestorationMetrics", metrics, METRICS)
        data_range = python_scalar(data_range)
        check_range("RestorationMetrics", data_range)
        sums = {"total": torch.zeros(len(metrics), dtype=torch.float64), "count": torch.zeros((), dtype=torch.int64)}
        crop_border, to_y = python_scalar(crop_border), python_scalar(to_y)
        check_cut("RestorationMetrics", crop_border, to_y)
        options = {"metrics": tuple(metrics), "data_range": data_range, "crop_border": crop_border, "to_y": to_y}
        super().__init__(options | {"validate": validate}, **sums)

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch, as for :func:`psnr`."""
        self.refuse_synced("update")
        (pred, target), data_range = plain((pred, target)), self.options["data_range"]
        check("RestorationMetrics", pred, target, data_range, self.options["validate"])
        pred, target = compared("RestorationMetrics", pred, target, data_range, self.options["crop_border"], self.options["to_y"])
        self.refuse_elsewhere("pred", pred)
        with torch.no_grad():
            values = [self.shown(METRICS[name](pred, target, data_range)).sum() for name in self.options["metrics"]]
        self.total += torch.stack(values)
        self.count += len(pred)

    def shown(self, values: Tensor) -> Tensor:
        """Return a metric's values of images as the means take them."""
        return values

    forward = update  # type: ignore[assignment]


def check(who: str, pred: object, target: object, data_range: Any, validate: bool) -> None:
    """Refuse what are not two batches of images of one shape."""
    check_range(who, data_range)
    for name, given in (("pred", pred), ("target", target)):
        if not isinstance(given, Tensor) or given.dtype not in SCORE_DTYPES or given.layout != torch.strided:
            whole = isinstance(given, Tensor) and not given.is_floating_point()
            hint = "pictures of 0 to 255: take .float() / 255" if whole else ""
            raise LossError(who, name, "a dense float tensor [B, C, H, W]", describe(given), hint)
    assert isinstance(pred, Tensor) and isinstance(target, Tensor)
    if pred.dim() != 4 or min(pred.shape[1:]) == 0:
        hint = "the batch dimension is required: image[None]" if pred.dim() == 3 else ""
        raise LossError(who, "pred", "[B, C, H, W]", f"{list(pred.shape)}", hint)
    if target.shape != pred.shape:
        raise LossError(who, "target", f"of pred's shape {list(pred.shape)}", f"{list(target.shape)}")
    if target.device != pred.device:
        raise LossError(who, "target", f"on pred's device {pred.device}", f"{target.device}")
    if can_look(target, validate):
        with naming(who):
            refuse_another_range(target, None, data_range)


def check_range(who: str, data_range: object) -> None:
    """Refuse a range that is no finite number above 0."""
    holds = isinstance(data_range, (int, float)) and is_number(data_range) and 1e-6 <= data_range <= 1e12
    check_option(who, "data_range", holds, "a number from 1e-6 to 1e12, the difference between white and black", data_range)


def check_cut(who: str, crop_border: object, to_y: object) -> None:
    """Refuse a border that is no number of pixels, and what is neither True nor False."""
    pixels = isinstance(crop_border, int) and not isinstance(crop_border, bool) and crop_border >= 0
    check_option(who, "crop_border", pixels, "a number of pixels, an integer >= 0", crop_border)
    check_option(who, "to_y", isinstance(to_y, bool), "True or False", to_y)


def compared(who: str, pred: Tensor, target: Tensor, white: float, crop_border: int, to_y: bool) -> tuple[Tensor, Tensor]:
    """Return what of two images is compared: without a border, and their lumas."""
    check_cut(who, crop_border, to_y)
    if 2 * crop_border >= min(pred.shape[2:]):
        raise LossError(who, "crop_border", f"less than half of the images' sides {list(pred.shape[2:])}", repr(crop_border))
    if to_y and pred.shape[1] != 3:
        raise LossError(who, "pred", "[B, 3, H, W] with to_y=True", f"{list(pred.shape)}")
    if crop_border:
        pred, target = (x[:, :, crop_border:-crop_border, crop_border:-crop_border] for x in (pred, target))
    return (luma(pred, white), luma(target, white)) if to_y else (pred, target)


def luma(image: Tensor, white: float) -> Tensor:
    """Return the luma of RGB images, BT.601."""
    image = image.to(total_dtype(image))
    return (65.481 * image[:, :1] + 128.553 * image[:, 1:2] + 24.966 * image[:, 2:] + 16 * white) / 255


def _psnr(pred: Tensor, target: Tensor, data_range: float) -> Tensor:
    kind = total_dtype(pred)
    error = (pred.to(kind) - target.to(kind)).square().flatten(1).mean(1)
    return 10 * (data_range**2 / error).log10()


def _ssim(pred: Tensor, target: Tensor, data_range: float, **window: Any) -> Tensor:
    loss = SSIMLoss(data_range=data_range, **window)
    with naming("ssim"):
        given = loss.check(pred, target)
        error, weight = loss.formula(collect(loss.needs(given), given), given)
    return 1 - error.sum(1) / weight.sum(1)


METRICS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"psnr": _psnr, "ssim": _ssim}
