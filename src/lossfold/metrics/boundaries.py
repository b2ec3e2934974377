"""Metrics of boundaries: the boundary F1, with a tolerance, and the Boundary IoU, of each image and class."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import is_number, python_scalar
from lossfold.metrics.counts import check_classes, check_maps, check_option, check_range
from lossfold.trimaps import squared_distance

TOLERANCE = 0.0075
"""Of the boundary F1, as a share of the image's diagonal."""
WIDTH = 0.02
"""Of the Boundary IoU's bands, as a share of the image's diagonal."""
SUMS = 6
"""Predicted and true boundary pixels, each followed by how many of them are near the other; both bands' overlap and union."""


@torch.no_grad()
def boundary_f1(
    preds: Tensor,
    labels: Tensor,
    C: int,
    tolerance: float = TOLERANCE,
    empty: float | str = 1.0,
    ignore: int | None = None,
    fraction: bool = False,
) -> Tensor:
    """Return the F1 score of each class's boundary, ``2 P R / (P + R)``, in percent.

    A class's boundary are its pixels with one of another class above, below or beside them; the image's border makes none.
    P is the share of the predicted boundary that lies within the tolerance of the true one, R the reverse.

    Args:
        preds: integer class map ``[B, H, W]``, values in [0, C).
        labels: integer class map of the same shape, values in [0, C) or ``ignore``.
        C: number of classes.
        tolerance: a Euclidean distance, in pixels from 1 on; below, a share of the diagonal, rounded up. 0: the same pixel.
        empty: value, as a fraction, where a class has no boundary in either; ``"skip"`` makes it NaN.
        ignore: label of the pixels that do not count: they are in no mask, make no boundary, and predictions there take no part.
        fraction: return 0 to 1 in place of percent.

    Returns:
        float64 ``[B, C]`` without a gradient; NaN for the ignored class if it is one of the C.

    Raises:
        LossError: for wrong dtypes, shapes or devices, and for values out of range (off the CPU an assert on the device).

    Example:
        >>> labels = torch.zeros(1, 8, 8).long()
        >>> labels[:, 2:6, 2:6] = 1
        >>> boundary_f1(labels.roll(1, -1), labels, C=2, tolerance=1)
        tensor([[100., 100.]], dtype=torch.float64)

    Reference:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013; as maps of pixels: Perazzi et al.,
        A benchmark dataset and evaluation methodology for video object segmentation, CVPR 2016.
    """
    sums = boundary_counts(preds, labels, C, tolerance=tolerance, ignore=ignore)
    return _result("boundary_f1", f1_of_counts(sums), sums[..., 0] + sums[..., 2] == 0, empty, ignore, fraction)


@torch.no_grad()
def boundary_iou(
    preds: Tensor,
    labels: Tensor,
    C: int,
    width: float = WIDTH,
    empty: float | str = 1.0,
    ignore: int | None = None,
    fraction: bool = False,
) -> Tensor:
    """Return the Boundary IoU of each class, the IoU of the bands along the inside of its boundary, in percent.

    A mask's band are its pixels from which another class, or what lies beyond the image's border, is at most ``width`` rows and
    columns away.

    Args:
        preds, labels, C, empty, ignore, fraction: as for :func:`boundary_f1`.
        width: pixels from 1 on; below, a share of the image's diagonal, rounded, at least 1 pixel.

    Returns:
        float64 ``[B, C]``, as :func:`boundary_f1`.

    Raises:
        LossError: as for :func:`boundary_f1`.

    Example:
        >>> labels = torch.zeros(1, 8, 8).long()
        >>> labels[:, 2:6, 2:6] = 1
        >>> boundary_iou(labels, labels, C=2, width=1)
        tensor([[100., 100.]], dtype=torch.float64)

    Reference:
        Cheng et al., Boundary IoU: improving object-centric image segmentation evaluation, CVPR 2021.
    """
    sums = boundary_counts(preds, labels, C, width=width, ignore=ignore)
    return _result("boundary_iou", sums[..., 4].double() / sums[..., 5], sums[..., 5] == 0, empty, ignore, fraction)


@torch.no_grad()
def boundary_counts(
    preds: Tensor,
    labels: Tensor,
    C: int,
    tolerance: float = TOLERANCE,
    width: float = WIDTH,
    ignore: int | None = None,
) -> Tensor:
    """Return what :func:`boundary_f1` and :func:`boundary_iou` are ratios of: counts, which add over images.

    Args:
        preds, labels, C, tolerance, ignore: as for :func:`boundary_f1`.
        width: as for :func:`boundary_iou`.

    Returns:
        int64 ``[B, C, 6]``: predicted boundary pixels and those of them near a true one, true boundary pixels and those of them
        near a predicted one, pixels in both bands and in either.

    Raises:
        LossError: as for :func:`boundary_f1`.

    Example:
        >>> labels = torch.zeros(1, 8, 8).long()
        >>> labels[:, 2:6, 2:6] = 1
        >>> boundary_counts(labels, labels, C=2, tolerance=1, width=1)[0, 1].tolist()
        [12, 12, 12, 12, 12, 12]
    """
    who = "boundary_counts"
    C, ignore, tolerance, width = map(python_scalar, (C, ignore, tolerance, width))  # noqa: N806
    check_classes(who, C, ignore)
    check_reaches(who, tolerance, width)
    check_maps(who, preds, labels, True, False)
    check_option(who, "preds", preds.dim() == 3 and preds.numel() > 0, "class maps [B, H, W] with pixels", list(preds.shape))
    found, truth = preds.long(), labels.long()
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    check_range(who, "labels", truth, counted, C, ignore)
    check_range(who, "preds", found, counted, C, ignore)
    reach, pixels = in_pixels(tolerance, width, *preds.shape[1:])
    return torch.stack([count_boundaries(found == k, truth == k, counted, reach, pixels) for k in range(C)], 1)


def check_reaches(who: str, tolerance: object, width: object) -> None:
    """Refuse a tolerance or a width that is no distance."""
    expected = "a number of pixels, or below 1 a share of the image's diagonal"
    check_option(who, "tolerance", is_number(tolerance) and 0 <= tolerance < 2**15, f"{expected}, or 0", tolerance)  # type: ignore[operator]
    check_option(who, "width", is_number(width) and 0 < width < 2**15, expected, width)  # type: ignore[operator]


def in_pixels(tolerance: float, width: float, height: int, across: int) -> tuple[float, int]:
    """Return the tolerance and the width in pixels of an image."""
    diagonal = math.hypot(height, across)
    return (
        tolerance if tolerance >= 1 else math.ceil(tolerance * diagonal),
        int(width) if width >= 1 else max(1, round(width * diagonal)),
    )


def halo(tolerance: float, width: int) -> int:
    """Return how far beyond a part of an image the counts of that part look."""
    return max(width, int(tolerance) + 1)


def count_boundaries(
    pred: Tensor, target: Tensor, counted: Tensor, tolerance: float, width: int, part: tuple[slice, slice] = (slice(None),) * 2
) -> Tensor:
    """Return the counts int64 ``[B, 6]`` of masks ``[B, H, W]``, in pixels.

    Args:
        pred, target, counted: booleans.
        tolerance, width: in pixels.
        part: rows and columns whose pixels are counted; as far as the image goes, a :func:`halo` is around them.
    """
    pred, target = pred & counted, target & counted
    inside = torch.zeros_like(counted)
    inside[:, part[0], part[1]] = True
    counts = []
    lines = [_contour(mask, counted) for mask in (pred, target)]
    for own, other in (lines, lines[::-1]):
        points = own & inside
        counts += [_number(points), _number(near(points, other, float(tolerance)))]
    del lines, points, own, other  # large maps, which the bands need no more
    bands = [_band(mask, counted, width) & inside for mask in (pred, target)]
    counts += [_number(bands[0] & bands[1]), _number(bands[0] | bands[1])]
    return torch.stack(counts, 1)


def _number(found: Tensor) -> Tensor:
    """Return how many pixels of each image are True; several times as fast as a sum."""
    return torch.stack([torch.count_nonzero(image) for image in found])


def f1_of_counts(sums: Tensor) -> Tensor:
    """Return the F1 of counts ``[..., 6]``; 0 where one of the two has no boundary, or nothing is near."""
    predicted, hits, true, found = sums[..., :4].double().unbind(-1)
    precision, recall = hits / predicted, found / true
    return torch.where(hits + found > 0, 2 * precision * recall / (precision + recall), 0.0)


def _result(who: str, values: Tensor, nothing: Tensor, empty: object, ignore: int | None, fraction: object) -> Tensor:
    empty, fraction = python_scalar(empty), python_scalar(fraction)
    check_option(who, "empty", empty == "skip" or is_number(empty), "a number or 'skip'", empty)
    check_option(who, "fraction", isinstance(fraction, bool), "True or False", fraction)
    values = torch.where(nothing, torch.nan if empty == "skip" else float(empty), values)  # type: ignore[arg-type]
    if ignore is not None:
        values = torch.where(torch.arange(values.shape[-1], device=values.device) == ignore, torch.nan, values)
    return values if fraction else 100 * values


def _contour(mask: Tensor, counted: Tensor) -> Tensor:
    """Return the pixels of a mask with a counted 4-neighbour that is not of it."""
    other = functional.pad(counted & ~mask, (1,) * 4)
    return mask & (other[:, :-2, 1:-1] | other[:, 2:, 1:-1] | other[:, 1:-1, :-2] | other[:, 1:-1, 2:])


def _band(mask: Tensor, counted: Tensor, width: int) -> Tensor:
    """Return the pixels of a mask that are near one that is not of it, where beyond the border nothing is."""
    other = functional.pad((counted & ~mask).view(torch.uint8), (1,) * 4, value=1)
    return mask & _spread(_spread(other, width).mT, width).mT[:, 1:-1, 1:-1].bool()


def _spread(mask: Tensor, reach: int) -> Tensor:
    """Return the maximum over the rows up to ``reach`` above and below each; windows that double, so that few passes do."""
    rows, window = 1, 2 * reach + 1
    mask = functional.pad(mask, (0, 0, reach, reach))
    while rows < window:
        step = min(rows, window - rows)
        mask = mask[:, :-step] | mask[:, step:]
        rows += step
    return mask


def near(points: Tensor, others: Tensor, reach: float) -> Tensor:
    """Return which of the points ``[B, H, W]`` have one of the others at a Euclidean distance of at most ``reach``."""
    if torch.compiler.is_compiling():
        return near_in_graphs(points, others, reach)  # type: ignore[no-any-return]
    if points.device.type == "cpu":
        return torch.stack([_near(*masks, reach) for masks in zip(points, others, strict=True)])
    return points & (squared_distance(others, int(reach)) <= reach * reach)


# An operator, because the number of points depends on the data, which a compiled graph can't hold.
@torch.library.custom_op("lossfold_metrics::near", mutates_args=())
def near_in_graphs(points: Tensor, others: Tensor, reach: float) -> Tensor:
    """Return what :func:`near` returns, in a compiled graph."""
    return near(points, others, reach)


@near_in_graphs.register_fake
def _(points: Tensor, others: Tensor, reach: float) -> Tensor:
    return torch.empty_like(points, memory_format=torch.contiguous_format)


def _near(points: Tensor, others: Tensor, reach: float) -> Tensor:
    """Return what :func:`near` returns of one image: for each point, how many others are in the disc's part of each row.

    Points are few, and most have one in the first rows: so the work does not grow with the reach as that of whole maps does.
    """
    height, width = points.shape
    found = torch.zeros_like(points, memory_format=torch.contiguous_format)
    rows, columns = points.nonzero().unbind(1)
    if not len(rows) or not others.any():
        return found
    before = torch.zeros(height, width + 1, dtype=torch.int32, device=points.device)
    torch.cumsum(others, 1, dtype=torch.int32, out=before[:, 1:])
    for away in sorted(range(-min(int(reach), height), min(int(reach), height) + 1), key=abs):
        beside, at = math.isqrt(math.floor(reach * reach - away * away)), rows + away
        line = at.clamp(0, height - 1)
        first, last = (columns - beside).clamp_min(0), (columns + beside + 1).clamp_max(width)
        close = (before[line, last] > before[line, first]) & (at >= 0) & (at < height)
        found[rows[close], columns[close]] = True
        rows, columns = rows[~close], columns[~close]
        if not len(rows):
            break
    return found
