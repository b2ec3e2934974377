"""What matting's metrics add up: the error of each pixel, after the arguments are checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import LossError
from lossfold.folds.arithmetic import on_cpu, total_dtype
from lossfold.folds.checks import SCORE_DTYPES, plain
from lossfold.folds.fold import describe
from lossfold.metrics.matting_connectivity import levels_connected
from lossfold.trimaps import check_unit

SIGMA = 1.4  # of Grad's filters
CUT = 1e-2  # where their Gaussian is cut off
STEPS = 10  # levels of Conn
PUBLISHED = tuple(step * 0.1 for step in range(STEPS + 1))  # as rounded by what made them, 0.30000000000000004 for one
LEAST = 0.15  # difference to the connected level from which on Conn counts it


class Mattes(NamedTuple):
    """Checked alphas ``[B, H, W]`` as they came, and the region in float64 (float32 on devices without it)."""

    pred: Tensor
    target: Tensor
    region: Tensor


def check(who: str, pred: object, target: object, region: object) -> Mattes:
    """Refuse what are not two batches of alphas and a region of theirs."""
    pred, target, region = plain((pred, target, region))
    shapes = "[B, 1, H, W] or [B, H, W]"
    for name, given in (("pred", pred), ("target", target)):
        if not isinstance(given, Tensor) or given.dtype not in SCORE_DTYPES or given.layout != torch.strided:
            whole = isinstance(given, Tensor) and not given.is_floating_point()
            hint = "alphas are 0 to 1: take .float() / 255" if whole else ""
            raise LossError(who, name, f"a dense float tensor {shapes}", describe(given), hint)
    assert isinstance(pred, Tensor) and isinstance(target, Tensor)
    channels = pred.shape[1] if pred.dim() == 4 else 1
    if pred.dim() not in (3, 4) or channels != 1 or min(pred.shape[-2:]) == 0:
        hint = "the batch dimension is required: alpha[None]" if pred.dim() == 2 else ""
        raise LossError(who, "pred", shapes, f"{list(pred.shape)}", hint)
    if target.shape != pred.shape:
        raise LossError(who, "target", f"of pred's shape {list(pred.shape)}", f"{list(target.shape)}")
    flat = (len(pred), *pred.shape[-2:])
    pred_map, target_map = pred.detach().reshape(flat), target.detach().reshape(flat)
    kind = total_dtype(pred)
    unknown = torch.ones(flat, dtype=kind, device=pred.device) if region is None else _check_region(who, region, pred)
    for name, given in (("target", target), ("region", unknown)):
        if given.device != pred.device:
            raise LossError(who, name, f"on pred's device {pred.device}", f"{given.device}")
    check_unit(who, "pred", pred_map)
    check_unit(who, "target", target_map)
    if isinstance(region, Tensor) and region.dtype != torch.bool:
        check_unit(who, "region", unknown, 0.0, "a trimap? region_from_trimap(trimap)")
    return Mattes(pred_map, target_map, unknown.detach().to(kind).reshape(flat))


def _check_region(who: str, region: object, pred: Tensor) -> Tensor:
    """Refuse a region whose dtype or shape does not fit."""
    flat = (len(pred), *pred.shape[-2:])
    if not isinstance(region, Tensor) or region.dtype not in (*SCORE_DTYPES, torch.bool) or region.layout != torch.strided:
        hint = "a trimap? region_from_trimap(trimap); a mask of 0 and 1? .bool()" if isinstance(region, Tensor) else ""
        raise LossError(who, "region", f"a dense bool or float tensor {list(flat)}", describe(region), hint)
    if tuple(region.shape) not in (flat, (flat[0], 1, *flat[1:])):
        raise LossError(who, "region", f"of shape {list(flat)} or {[flat[0], 1, *flat[1:]]}", f"{list(region.shape)}")
    return region


def measure(name: str, mattes: Mattes, flag: bool = True) -> Tensor:
    """Return each image's value ``[B]``; the flag is that of :data:`MAPS`."""
    area = mattes.region.sum((1, 2))
    total = (MAPS[name](mattes, flag) * mattes.region).sum((1, 2))
    return torch.where(area > 0, total / area if name == "mse" else total / 1000, torch.nan)


def _absolute(mattes: Mattes, _: bool) -> Tensor:
    return (mattes.pred.to(mattes.region) - mattes.target.to(mattes.region)).abs()


def _squared(mattes: Mattes, _: bool) -> Tensor:
    return (mattes.pred.to(mattes.region) - mattes.target.to(mattes.region)).square()


def _gradients(mattes: Mattes, normalize: bool) -> Tensor:
    return (_steepness(mattes.pred.to(mattes.region), normalize) - _steepness(mattes.target.to(mattes.region), normalize)).square()


def _connectivity(mattes: Mattes, published: bool) -> Tensor:
    if published:
        mattes = mattes._replace(pred=_as_read(mattes.pred.to(mattes.region)), target=_as_read(mattes.target.to(mattes.region)))
    levels = PUBLISHED if published else tuple(step / STEPS for step in range(STEPS + 1))
    step = levels_connected(mattes.pred, mattes.target, levels[1:]).to(mattes.region)
    level = step * 0.1 if published else step / STEPS  # these numbers, made where the alphas are
    pred, target = (alpha.to(mattes.region) - level for alpha in (mattes.pred, mattes.target))
    return (pred * (pred >= LEAST) - target * (target >= LEAST)).abs()


def _as_read(alpha: Tensor) -> Tensor:
    """Return alphas of 8 bits in the digits of float64 again, k / 255; others as they are."""
    bits = (alpha * 255).round() / 255
    return torch.where((alpha - bits).abs() < 1e-6, bits, alpha)


def _steepness(alpha: Tensor, normalize: bool) -> Tensor:
    """Return the magnitude of the gradients ``[B, H, W]``."""
    if normalize:
        alpha = stretched(alpha, alpha.amin((1, 2), keepdim=True), alpha.amax((1, 2), keepdim=True))
    gauss, slope = _kernels()
    half, height = len(gauss) // 2, alpha.shape[1]
    padded = functional.pad(alpha[:, None], (half,) * 4, mode="replicate")[:, 0]
    # Parts that stay in a cache; elsewhere the image in one go.
    rows = max(16, 2**16 // padded.shape[2]) if on_cpu(alpha) else height
    found = torch.empty_like(alpha)
    for start in range(0, height, rows):
        part = padded[:, start : min(start + rows, height) + 2 * half]
        across = _filter(_filter(part, gauss, 1), slope, 2)
        down = _filter(_filter(part, slope, 1), gauss, 2)
        found[:, start : start + rows] = across.square_().add_(down.square_()).sqrt_()
    return found


def stretched(alpha: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Return alphas whose smallest and largest are brought to 0 and 1; as they are where all are equal."""
    return torch.where(most > least, (alpha - least) / (most - least), alpha)


def _kernels() -> tuple[list[float], list[float]]:
    """Return a Gaussian and its derivative; the sum of squares of their outer product is 1, as is each one's own."""
    half = math.ceil(SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * SIGMA * CUT)))
    gauss = [math.exp(-x * x / (2 * SIGMA**2)) for x in range(-half, half + 1)]
    slope = [-x * g for x, g in zip(range(-half, half + 1), gauss, strict=True)]
    gauss_norm, slope_norm = (math.sqrt(sum(v * v for v in kernel)) for kernel in (gauss, slope))
    return [v / gauss_norm for v in gauss], [v / slope_norm for v in slope]


def _filter(maps: Tensor, kernel: list[float], dim: int) -> Tensor:
    """Return the correlation with a kernel along one dimension, where the whole of it fits.

    Written out, so that every device adds in one order and an image comes out the same in any batch.
    """
    length = maps.shape[dim] - len(kernel) + 1
    found = maps.narrow(dim, 0, length) * kernel[0]
    for i, factor in enumerate(kernel[1:], 1):
        found = found.add_(maps.narrow(dim, i, length), alpha=factor)
    return found


REACH = len(_kernels()[0]) // 2
"""How far the gradients of a pixel look."""

# The error of each pixel; the flag is Grad's normalize, or whether Conn's levels are the published ones.
MAPS: dict[str, Callable[[Mattes, bool], Tensor]] = {
    "sad": _absolute,
    "mse": _squared,
    "grad": _gradients,
    "conn": _connectivity,
}
