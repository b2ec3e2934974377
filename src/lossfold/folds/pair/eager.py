"""The lean form of the pair fold: each value once, the pyramid's coefficients kept, the gradient by adjoints of the filters.

With d = p - t every sum is one of w f(L p) or w f(L d) over the places of a linear filter L (none, the difference of
neighbours, Sobel, a level of the pyramid): its gradient is the adjoint of L applied to w f'. Sums that differ in w alone share
the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.engines.lean import Lean
from lossfold.folds.arithmetic import computed_in, slopes_of, total, total_dtype
from lossfold.folds.filters import Pyramid, PyramidAdjoint, Sobel, phases_of
from lossfold.folds.fold import unknown
from lossfold.folds.pair import definition
from lossfold.folds.pair.definition import at_levels
from lossfold.folds.pair.definition import integrand as integrand
from lossfold.folds.pair.spec import AXES, CONSTANT, KINDS, PADDINGS, SMALLEST_SIDE, PairSpec, PairSum

Fields = dict[tuple[str, float], Tensor]


class Options(NamedTuple):
    """What a pass takes beside tensors: the spec, the names of the regions, and which of them must lie in [0, 1]."""

    spec: PairSpec
    names: tuple[str, ...]
    in_unit: frozenset[str]


def fold(pred: Tensor, target: Tensor, regions: Mapping[str, Tensor], in_unit: frozenset[str], spec: PairSpec) -> Tensor:
    """Compute :func:`lossfold.folds.pair.definition.fold`."""
    return LEAN.run(Options(spec, tuple(regions), in_unit), pred, target, *regions.values())[0]


def _definition(options: Options, pred: Tensor, target: Tensor, *regions: Tensor) -> tuple[Tensor]:
    return (definition.fold(pred, target, dict(zip(options.names, regions, strict=True)), options.in_unit, options.spec),)


class Images:
    """The prediction, the difference, and what is made of them; images are ``[B, C, H, W]``."""

    def __init__(self, spec: PairSpec, pred: Tensor, target: Tensor) -> None:
        dtype = computed_in(pred)
        p, t = pred.to(dtype).contiguous(), target.to(dtype).contiguous()
        self.p = p.sigmoid() if spec.link == "sigmoid" else p
        self.d = self.p - t if any(reads_difference(one.kind) for one in spec.sums) else self.p
        self.depth = max((one.level + one.kind.startswith("lap") for one in spec.sums if one.level is not None), default=0)
        self.planes = p.shape[0] * p.shape[1]
        self.sobel = Sobel(p, self.planes) if any(one.kind.startswith("edge") for one in spec.sums) else None
        self.coefficients: list[Tensor] = []  # [B, C, 2, 2, h, w] of each level
        self.images = [self.d]  # from the first to what is left

    def split(self) -> tuple[Tensor, ...]:
        """Make the pyramid; return its kernels, the coefficients and the images after the first."""
        if not self.depth:
            return ()
        sides, pyramid = self.d.shape[:2], Pyramid(self.d, self.planes)
        while len(self.coefficients) < self.depth and min(self.images[-1].shape[-2:]) >= SMALLEST_SIDE:
            detail, small = pyramid.split(self.images[-1].flatten(0, 1))
            self.coefficients.append(detail.unflatten(0, sides))  # type: ignore[no-untyped-call]
            self.images.append(small.unflatten(0, sides))  # type: ignore[no-untyped-call]
        return pyramid.up, *self.coefficients, *self.images[1:]

    def of(self, kind: str, number: float) -> Tensor | None:
        """Return what a kind's function is taken of; None for a level that is not there."""
        match kind:
            case "edge" | "edge_of_pred":
                image = self.d if kind == "edge" else self.p
                assert self.sobel is not None
                return self.sobel.responses(image.flatten(0, 1), PADDINGS[int(number)]).unflatten(0, image.shape[:2])  # type: ignore[no-any-return, no-untyped-call]
            case "step" | "step_sq":
                return self.p.diff(dim=-2 if AXES[int(number)] == "rows" else -1)
            case "laplacian":
                return self.coefficients[int(number)] if number < len(self.coefficients) else None
            case "low_pass":
                return self.images[min(int(number), len(self.images) - 1)]
            case _:
                return self.d


def reads_difference(kind: str) -> bool:
    """Whether a kind is of the difference."""
    return kind not in CONSTANT and not kind.startswith("step") and kind != "edge_of_pred"


def value_of(kind: str, number: float, x: Tensor) -> Tensor:
    """Return a kind's function."""
    match kind:
        case "square" | "step_sq":
            return x * x
        case "smooth_abs":
            return functional.smooth_l1_loss(x, x.new_zeros(()).expand_as(x), reduction="none", beta=number)
        case "charbonnier":
            return (x * x).add_(number).sqrt_()
        case "edge" | "edge_of_pred":
            across, down = x.unbind(2)
            return across.abs().add_(down.abs())
        case "abs" | "step" | "laplacian" | "low_pass":
            return x.abs()
        case _:
            raise unknown(KINDS, kind)


def slope_of(kind: str, number: float, x: Tensor) -> Tensor:
    """Return the derivative of a kind's function."""
    match kind:
        case "square" | "step_sq":
            return 2 * x
        case "smooth_abs":
            return (x / number).clamp_(-1, 1) if number else x.sgn()
        case "charbonnier":
            return x / (x * x).add_(number).sqrt_()
        case _:
            return x.sgn()


class Weights:
    """The regions at the levels of the pyramid, and where they are 0."""

    def __init__(self, options: Options, regions: tuple[Tensor, ...], dtype: torch.dtype) -> None:
        given = dict(zip(options.names, regions, strict=True))
        self.maps = at_levels(given, options.spec, dtype)
        self.zeros: dict[tuple[str, int], Tensor] = {}

    def of(self, one: PairSum) -> tuple[Tensor, Tensor] | None:
        """Return a sum's region and where it is 0, ``[B, 1 or C, ...]`` as its values; None for 1 everywhere."""
        if not one.where:
            return None
        key = one.region, one.level or 0
        if key not in self.zeros:
            self.zeros[key] = self.maps[key] == 0
        return placed(one, self.maps[key]), placed(one, self.zeros[key])


def placed(one: PairSum, region: Tensor) -> Tensor:
    """Return a region at the places of a sum's values."""
    if one.kind.startswith("laplacian"):
        return phases_of(region)
    if one.kind.startswith("step"):
        dim = -2 if AXES[int(one.number)] == "rows" else -1
        return region.narrow(dim, 0, region.shape[dim] - 1)
    return region


def summed(values: Tensor, one: PairSum, weight: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return a sum's values times their weights, ``[B, C]``; where a weight is 0 the value may be anything."""
    if weight is not None:
        region, zero = weight
        if one.where.startswith("~"):
            values = torch.where(zero, values, values.new_zeros(()), out=torch.empty_like(values))
        else:
            values = torch.mul(values, region, out=torch.empty_like(values)).masked_fill_(zero, 0)
    return total(values.flatten(2))


def summed_weights(images: Images, one: PairSum, weight: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return the sum of a constant kind, ``[B, C]``."""
    d = images.d
    kind = one.kind.removesuffix("_weight")
    if kind == "step":
        rows, columns = d.shape[-2:]
        places = (rows - 1) * columns if AXES[int(one.number)] == "rows" else rows * (columns - 1)
    else:
        x = images.of(kind, one.number)
        if x is None:
            return torch.zeros(d.shape[:2], dtype=total_dtype(d), device=d.device)
        places = x[0, 0].numel()
    if weight is None:
        return torch.full(d.shape[:2], places, dtype=total_dtype(d), device=d.device)
    chosen = weight[1] if one.where.startswith("~") else weight[0]
    return total(chosen.to(d.dtype).contiguous().flatten(2)).expand(d.shape[:2])


def _fold(options: Options, pred: Tensor, target: Tensor, *regions: Tensor, keep: bool) -> tuple[tuple[Tensor], tuple[Tensor, ...]]:
    """Make the pass; kept are the pyramid's coefficients and what is left of the image."""
    spec = options.spec
    for name, region in zip(options.names, regions, strict=True):
        if name in options.in_unit and region.is_floating_point():
            least, most = region.aminmax()
            torch._assert_async((least >= 0) & (most <= 1), "lossfold: a region value is out of range [0, 1]")
    images = Images(spec, pred, target)
    kept = images.split()
    weights = Weights(options, regions, images.d.dtype)
    sums: dict[PairSum, Tensor] = {}
    for kind, number in dict.fromkeys((one.kind, one.number) for one in spec.sums):
        alike = [one for one in spec.sums if (one.kind, one.number) == (kind, number)]
        if kind in CONSTANT:
            sums.update({one: summed_weights(images, one, weights.of(one)) for one in alike})
            continue
        x = images.of(kind, number)
        if x is None:
            zero = torch.zeros(pred.shape[:2], dtype=total_dtype(images.d), device=pred.device)
            sums.update(dict.fromkeys(alike, zero))
            continue
        x = value_of(kind, number, x)
        for one in alike:
            sums[one] = summed(x, one, weights.of(one))
        del x
    return (torch.stack([sums[one] for one in spec.sums], 1),), kept if keep else ()


def _unfold(
    grads: tuple[Tensor | None, ...],
    kept: tuple[Tensor, ...],
    owned: bool,
    options: Options,
    pred: Tensor,
    target: Tensor,
    *regions: Tensor,
) -> Tensor:
    spec, (grad,) = options.spec, grads
    assert grad is not None
    images = Images(spec, pred, target)
    if kept:
        levels = len(kept) // 2
        images.coefficients, images.images[1:] = list(kept[1 : levels + 1]), kept[levels + 1 :]
    weights = Weights(options, regions, images.d.dtype)
    rows = slopes_of(grad, images.d.dtype)
    fields: Fields = {}  # for each kind: the weighted derivatives, at its places
    for kind, number in dict.fromkeys((one.kind, one.number) for one in spec.sums if one.kind not in CONSTANT):
        x = images.of(kind, number)
        if x is not None:
            fields[kind, number] = _field(spec, weights, rows, kind, number, x)
            del x
    return _joined(spec, images, fields, PyramidAdjoint(kept[0]) if kept else None).to(pred.dtype)


def _field(spec: PairSpec, weights: Weights, rows: Tensor, kind: str, number: float, x: Tensor) -> Tensor:
    """Return the derivative of all sums of a kind at its places."""
    factor: Tensor | None = None
    masks = False
    for place, one in enumerate(spec.sums):
        if (one.kind, one.number) != (kind, number):
            continue
        g = rows[:, place].reshape(*rows.shape[::2], *[1] * (x.dim() - 2))
        weight = weights.of(one)
        if weight is not None:
            masks = True
            chosen = weight[1] if one.where.startswith("~") else weight[0]
            g = g * (chosen.unsqueeze(2) if kind.startswith("edge") else chosen)
        factor = g if factor is None else factor + g
    assert factor is not None
    slope = slope_of(kind, number, x).mul_(factor)
    return slope.masked_fill_(factor == 0, 0) if masks else slope


def _joined(spec: PairSpec, images: Images, fields: Fields, pyramid: PyramidAdjoint | None) -> Tensor:
    """Return the gradient of the prediction from those of what is made of it."""
    shape = images.p.shape
    slope: Tensor | None = None
    for (kind, _), field in fields.items():
        if kind in ("abs", "square", "smooth_abs", "charbonnier"):
            slope = field if slope is None else slope.add_(field)
    for number, padding in enumerate(PADDINGS):
        found = [fields[kind, number] for kind in ("edge", "edge_of_pred") if (kind, number) in fields]
        if found:
            both = found[0] if len(found) == 1 else found[0].add_(found[1])
            assert images.sobel is not None
            part = images.sobel.adjoint(both.flatten(0, 1), padding).unflatten(0, shape[:2])  # type: ignore[no-untyped-call]
            slope = part if slope is None else part.add_(slope)
    if pyramid is not None:
        part = _through_pyramid(images, fields, pyramid)
        slope = part if slope is None else part.add_(slope)
    slope = torch.zeros_like(images.p) if slope is None else slope
    for (kind, axis), field in fields.items():
        if kind.startswith("step"):
            dim, length = (-2, shape[-2]) if AXES[int(axis)] == "rows" else (-1, shape[-1])
            slope.narrow(dim, 1, length - 1).add_(field)
            slope.narrow(dim, 0, length - 1).sub_(field)
    return torch.ops.aten.sigmoid_backward(slope, images.p) if spec.link == "sigmoid" else slope


def _through_pyramid(images: Images, fields: Fields, pyramid: PyramidAdjoint) -> Tensor:
    """Return the gradient of the image at whose pyramid the sums were taken."""
    sides = [images.d.flatten(0, 1).shape]
    for _ in images.coefficients:
        groups, rows, columns = sides[-1]
        sides.append(torch.Size((groups, rows // 2, columns // 2)))
    by_image = None
    last = len(images.coefficients)
    for level in range(last, -1, -1):
        for (kind, number), field in fields.items():
            if kind == "low_pass" and min(number, last) == level:
                by_image = field.flatten(0, 1) if by_image is None else by_image + field.flatten(0, 1)
        detail = fields.get(("laplacian", level - 1))
        if level and (detail is not None or by_image is not None):
            by_image = pyramid.join(None if detail is None else detail.flatten(0, 1), by_image, sides[level - 1])
    return torch.zeros_like(images.d) if by_image is None else by_image.reshape(images.d.shape)


LEAN = Lean(_fold, _unfold, _definition)
