"""The definition of the pair fold in plain PyTorch; see :mod:`lossfold.folds.label.definition`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.engines.transforms import inside_transform
from lossfold.folds.arithmetic import total
from lossfold.folds.fold import unknown
from lossfold.folds.pair.spec import KINDS, PADDINGS, SMALLEST_SIDE, PairSpec, PairSum


def fold(pred: Tensor, target: Tensor, regions: Mapping[str, Tensor], in_unit: frozenset[str], spec: PairSpec) -> Tensor:
    """Sum over the pixels, for each image and channel, what ``spec`` names.

    Args:
        pred: ``[B, C, H, W]`` predictions, or their logits (link "sigmoid"); volumes ``[B, C, D, H, W]``.
        target: of the same shape.
        regions: weights ``[B, 1, H, W]`` or ``[B, C, H, W]`` by name, float or bool.
        in_unit: names of the regions whose values must lie in [0, 1].
        spec: what to collect.

    Returns:
        ``[B, len(spec.sums), C]`` in float64 (float32 on devices without it).
    """
    assert_unit(regions, in_unit)
    found = Values(pred, target, spec)
    maps = at_levels(regions, spec, found.d.dtype)
    return sums_of(found, [maps.get((one.region, one.level or 0)) for one in spec.sums], spec)


def sums_of(found: Values, regions: Sequence[Tensor | None], spec: PairSpec) -> Tensor:
    """Return the sums, given each one's region at its own level."""
    shares = [weighted(found, one, region) for one, region in zip(spec.sums, regions, strict=True)]
    return torch.stack([total(share.contiguous().flatten(2)) for share in shares], 1)


def assert_unit(regions: Mapping[str, Tensor], in_unit: frozenset[str]) -> None:
    """Stop, without waiting for the device, where a region's value is outside of [0, 1]."""
    for name in in_unit:
        if regions[name].is_floating_point() and not inside_transform():
            inside = (regions[name] >= 0) & (regions[name] <= 1)
            torch._assert_async(inside.all(), "lossfold: a region value is out of range [0, 1]")


def integrand(
    pred: Tensor,
    target: Tensor,
    regions: Mapping[str, Tensor],
    in_unit: frozenset[str],
    spec: PairSpec,
    factors: tuple[float, ...],
) -> Tensor:
    """Return the integrand of sums over pixels: each pixel's share of them, times ``factors``: ``[B, C, H, W]``."""
    assert_unit(regions, in_unit)
    found = Values(pred, target, spec)
    shares = [f * weighted(found, one, regions.get(one.region)) for f, one in zip(factors, spec.sums, strict=True)]
    return sum(shares[1:], shares[0])


def weighted(found: Values, one: PairSum, region: Tensor | None) -> Tensor:
    """Return what each pixel (each coefficient of the pyramid) adds to a sum; where the weight is 0, nothing."""
    if region is None:
        return found.of(one)
    outside = one.where.startswith("~")
    counted = (region == 0) if outside else (region != 0)
    value = found.of(one, None if region.requires_grad else counted)
    w, counted = (corner(x, value.shape[2:]) for x in (region.to(value.dtype), counted))
    if outside:
        return torch.where(counted, value, 0.0)
    return w * value if w.requires_grad else torch.where(counted, w * value, 0.0)


def at_levels(regions: Mapping[str, Tensor], spec: PairSpec, dtype: torch.dtype) -> dict[tuple[str, int], Tensor]:
    """Return the regions that the sums name, by name and level: at a level of the pyramid, the means of 2x2 blocks."""
    found: dict[tuple[str, int], Tensor] = {}
    for one in spec.sums:
        if not one.where:
            continue
        name = one.region
        found.setdefault((name, 0), regions[name])
        for level in range(1, (one.level or 0) + 1):
            if (name, level) not in found:
                above = found[name, level - 1].to(dtype)
                ends = min(above.shape[2:]) < SMALLEST_SIDE
                halved = functional.avg_pool2d if above.dim() == 4 else functional.avg_pool3d
                found[name, level] = above if ends else halved(even(above), 2)
    return found


class Values:
    """What the sums are taken of; the differences, edges and pyramid are made when they are asked for."""

    def __init__(self, pred: Tensor, target: Tensor, spec: PairSpec) -> None:
        dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
        p, t = pred.to(dtype).contiguous(), target.to(dtype).contiguous()  # sums are the same bits in every layout
        self.p = p.sigmoid() if spec.link == "sigmoid" else p
        self.d = self.p - t
        depth = max((one.level + one.kind.startswith("lap") for one in spec.sums if one.level is not None), default=0)
        self.coefficients, self.images = pyramid(self.d, depth) if depth else ([], [self.d])

    def of(self, one: PairSum, counted: Tensor | None = None) -> Tensor:
        """Return the values of a sum, ``[B, C, h, w]``; pixels that do not count may be infinite or NaN."""
        kind, number = one.kind, one.number
        d = self.d if counted is None or not one.alone else torch.where(counted, self.d, 0.0)
        match kind:
            case "weight":
                return torch.ones_like(d)
            case "abs":
                return d.abs()
            case "square":
                return d * d
            case "smooth_abs":
                return functional.smooth_l1_loss(d, torch.zeros_like(d), reduction="none", beta=number)
            case "charbonnier":
                return (d * d + number).sqrt()
            case "edge" | "edge_of_pred":
                first, *others = (one.abs() for one in sobel(d if kind == "edge" else self.p, PADDINGS[int(number)]))
                return sum(others, first)
            case "step" | "step_sq" | "step_weight":
                step = self.p.diff(dim=-1 - int(number))  # AXES are from the last on
                return step.abs() if kind == "step" else step * step if kind == "step_sq" else torch.ones_like(step)
            case "laplacian" | "laplacian_weight":
                level = int(number)
                found = self.coefficients[level] if level < len(self.coefficients) else corner(d, (0,) * (d.dim() - 2))
            case "low_pass" | "low_pass_weight":
                found = self.images[min(int(number), len(self.images) - 1)]
            case _:
                raise unknown(KINDS, kind)
        return torch.ones_like(found) if kind.endswith("weight") else found.abs()


def sobel(image: Tensor, padding: str) -> tuple[Tensor, ...]:
    """Return the responses to [-1 0 1; -2 0 2; -1 0 1] and to its transpose.

    In volumes there are three, to [-1 0 1] along each axis and [1 2 1] along both others.
    """
    axes = range(image.dim() - 1, 1, -1)
    if image.numel() == 0:
        return (image,) * len(axes)
    padded = functional.pad(image, (1, 1) * len(axes), mode="replicate" if padding == "replicate" else "constant")
    found = []
    for axis in axes:
        response = padded
        for dim in axes:
            before, here, after = (response.narrow(dim, k, image.shape[dim]) for k in range(3))
            response = after - before if dim == axis else before + 2 * here + after
        found.append(response)
    return tuple(found)


def pyramid(image: Tensor, levels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return each level's coefficients g - up(down(g)), and the images g, from the first to what is left.

    Reference: Burt and Adelson, The Laplacian pyramid as a compact image code, IEEE Trans. Communications 1983.
    """
    coefficients, images = [], [image]
    for _ in range(levels):
        if min(images[-1].shape[2:]) < SMALLEST_SIDE:
            break
        here = even(images[-1])
        axes = range(2, image.dim())
        small = blur(here)
        for dim in axes:
            small = small[(slice(None),) * dim + (slice(None, None, 2),)]
        stuffed = small
        for dim in axes:
            stuffed = torch.stack([stuffed, torch.zeros_like(stuffed)], dim + 1).flatten(dim, dim + 1)
        coefficients.append(here - blur(2 ** len(axes) * stuffed))
        images.append(small)
    return coefficients, images


def even(image: Tensor) -> Tensor:
    """Cut an odd side by one."""
    return corner(image, [side // 2 * 2 for side in image.shape[2:]])


def corner(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the first rows and columns."""
    for axis, side in enumerate(sides, 2):
        image = image.narrow(axis, 0, min(side, image.shape[axis]))
    return image


def blur(image: Tensor) -> Tensor:
    """Filter with [1 4 6 4 1] / 16 along each side, borders reflected."""
    axes = range(image.dim() - 1, 1, -1)
    padded = functional.pad(image, (2, 2) * len(axes), mode="reflect")
    for dim in axes:
        a, b, c, d, e = (padded.narrow(dim, k, image.shape[dim]) for k in range(5))
        padded = (a + e + 4 * (b + d) + 6 * c) / 16
    return padded
