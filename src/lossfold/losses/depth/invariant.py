"""Losses of depth and disparity that are known but for a scale and a shift."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.losses.base import Loss
from lossfold.losses.depth.given import Measured, measured, of_images
from lossfold.losses.reduce import Addends, Last, divide, second_mean
from lossfold.options import configured, option
from lossfold.registry import LOSSES

FLAT = 1e-6  # what varies less than this share of its size is a constant to rounding, and has no scale


@LOSSES.register
@configured
class ScaleShiftInvariantLoss(Loss):
    """The error of disparity after the best scale and shift of each image, and of its gradients at several scales.

    With the residual R = s·p + o − t, M = Σ w, and ∇ the steps between neighbours, of which both have to count:
    Σ w·ρ(R) / 2M + gradient_weight · Σ_k Σ w·(|∇x R_k| + |∇y R_k|) / M_k, R_k every 2^k-th pixel of R.

    Args:
        data: ρ: "mse" for squares, "l1" for absolute values.
        align: "least_squares" finds s and o for each image; "median" takes the median and the mean absolute deviation from it of
            both, R = (p − med p) / dev p − (t − med t) / dev t, which outliers hardly move.
        trim: the share of each image's largest residuals that ρ leaves out, as 0.2.
        gradient_weight: the factor on the gradients; 0 leaves them out.
        scales: at how many scales they are taken, each half as large as the one before.
        per_image: the mean of the images' own losses, of those in which something counts; else the sums are over the batch.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range.

    Gradient:
        Exact, through scale and shift. An image whose prediction is constant has scale 0 and no gradient. None for the target.

    Example:
        >>> target = torch.rand(2, 1, 16, 16)
        >>> ScaleShiftInvariantLoss()(0.25 * target + 3, target) < 1e-5
        tensor(True)

    Reference:
        Ranftl et al., Towards Robust Monocular Depth Estimation, IEEE TPAMI 2022 (MiDaS); the gradients: Li and Snavely,
        MegaDepth, CVPR 2018.
    """

    data: str = option("mse", words=("mse", "l1"))
    align: str = option("least_squares", words=("least_squares", "median"))
    trim: float = option(0.0, at_least=0, less_than=1)
    gradient_weight: float = option(0.5, at_least=0)
    scales: int = option(4, between=(1, 16))
    per_image: bool = option(False)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"data": "l1", "align": "median", "trim": 0.2, "gradient_weight": 2.0, "scales": 2, "per_image": True},
    )

    def addends(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch: numerators and denominators of the data term and of each scale."""
        given = measured(pred, target, weight, positive=False)
        residual = fitted(given) if self.align == "least_squares" else normalized(given)
        above, below = [self.misfit(residual, given.weight)], [2 * of_images(given.weight)]
        for k in range(self.scales if self.gradient_weight else 0):
            part, w = residual[..., :: 2**k, :: 2**k], given.weight[..., :: 2**k, :: 2**k]
            above.append(self.gradient_weight * (of_images(steps(part, w, -1)) + of_images(steps(part, w, -2))))
            below.append(of_images(w))
        sums = torch.stack(above), torch.stack(below)
        if not self.per_image:
            return Last(sums[0].sum(1), sums[1].sum(1)).addends(residual.dtype)
        return second_mean(divide(*sums).sum(0), sums[1][0].detach() != 0).addends(residual.dtype)

    def misfit(self, residual: Tensor, weight: Tensor) -> Tensor:
        """Return each image's sum of w·ρ(R), ``[B]``, without the largest residuals if some are trimmed."""
        sizes, weight = residual.abs().flatten(1), weight.flatten(1)
        if self.trim and sizes.shape[1]:
            seen = weight != 0
            sizes, order = torch.where(seen, sizes, torch.inf).sort(1)
            kept = ((1 - self.trim) * seen.sum(1, keepdim=True)).floor()
            keeps = torch.arange(sizes.shape[1], device=sizes.device) < kept
            sizes, weight = torch.where(keeps, sizes, 0.0), weight.gather(1, order)
        return of_images(weight * (sizes.square() if self.data == "mse" else sizes))

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: disparities ``[B, 1, H, W]``; float16, bfloat16, float32 or float64.
            target: of the same shape; infinite or NaN where nothing was measured.
            weight: ``[B, 1, H, W]`` or ``[B, H, W]`` float weights >= 0 or a boolean mask; a step has its lesser end's.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, target, weight))


def steps(residual: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Return what each step between neighbours costs."""
    size = residual.shape[dim] - 1
    size = max(0, size)
    both = torch.minimum(weight.narrow(dim, weight.shape[dim] - size, size), weight.narrow(dim, 0, size))
    return residual.diff(dim=dim).abs() * both


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return a number for each image, ``[B]``, as it stands beside its pixels."""
    return values.to(like.dtype)[:, None, None, None]


def fitted(given: Measured) -> Tensor:
    """Return the residual after the least squares' scale and shift, 0 where nothing counts."""
    p, t, w = given
    count, seen = of_images(w), w != 0
    size = of_images(w * p.square()).detach()  # before the mean is taken off, so that rounding is told from a slope
    p, t = (torch.where(seen, x - per_image(divide(of_images(w * x), count), x), 0.0) for x in (p, t))
    both, square = of_images(w * p * t), of_images(w * p.square())
    flat = square.detach() <= FLAT**2 * size
    scale = torch.where(flat, 0.0, both / torch.where(flat, 1.0, square))
    residual = per_image(scale, p) * p - t
    return torch.where(seen, residual - per_image(divide(of_images(w * residual), count), p), 0.0)


def normalized(given: Measured) -> Tensor:
    """Return the difference of prediction and target, both less their medians over their mean absolute deviations from them."""
    p, t, w = given
    count, seen = of_images(w), w != 0
    found = []
    for x in (p, t):
        away = torch.where(seen, x - per_image(median(x, seen), x), 0.0)
        size, deviation = (divide(of_images(w * y.abs()), count) for y in (torch.where(seen, x.detach(), 0.0), away))
        flat = deviation.detach() <= FLAT * size
        away = torch.where(flat[:, None, None, None], 0.0, away)
        found.append(away / per_image(torch.where(flat, 1.0, deviation), x))
    return found[0] - found[1]


def median(values: Tensor, seen: Tensor) -> Tensor:
    """Return the lower median of each image's values that are seen, ``[B]``, without waiting for the device."""
    if not values.numel():
        return values.new_zeros(len(values))
    ordered = torch.where(seen, values, torch.inf).flatten(1).sort(1).values
    middle = (seen.flatten(1).sum(1, keepdim=True) - 1).clamp_min(0) // 2
    found = ordered.gather(1, middle).squeeze(1)
    return torch.where(seen.flatten(1).any(1), found, 0.0)
