"""Metrics of shapes, of each image and class: distances between surfaces, centreline Dice, and numbers of parts."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import LossError, is_number, naming, python_scalar
from lossfold.folds.checks import plain
from lossfold.metrics.counts import check_classes, check_maps, check_option, check_range
from lossfold.metrics.parts import parts_of
from lossfold.shapes.distances import NOBODY, Spacing, _run, spacing_of

MOST = 3  # dimensions of space


@torch.no_grad()
def hausdorff95(
    preds: Tensor,
    labels: Tensor,
    C: int,
    percentile: float = 95.0,
    spacing: Spacing | None = None,
    empty: float | str = 0.0,
    ignore: int | None = None,
) -> Tensor:
    """Return the Hausdorff distance of each class's surfaces, robust by a percentile: the larger one of both directions.

    A surface are the pixels of a mask with one beside them (along an axis) that is not of it, or lies beyond the border. Of the
    distances from each pixel of one surface to the nearest one of the other, the percentile is NumPy's, by linear interpolation.

    Args:
        preds: integer class map ``[B, *S]``, values in [0, C), with one to three dimensions in space.
        labels: integer class map of the same shape, values in [0, C) or ``ignore``.
        C: number of classes.
        percentile: 0 to 100; 100 is the Hausdorff distance itself.
        spacing: from pixel to pixel: one number, one for each axis of space, or ``[B, len(S)]`` for each sample; None: 1.
        empty: value where a class is in neither; ``"skip"`` makes it NaN. Where it is in one of the two, the distance is infinite.
        ignore: label of the pixels that do not count: they are in no mask, and make no surface.

    Returns:
        float64 ``[B, C]`` without a gradient; NaN for the ignored class if it is one of the C.

    Raises:
        LossError: for wrong dtypes, shapes or devices, and for values out of range (off the CPU an assert on the device).

    Example:
        >>> labels = torch.zeros(1, 16, 16).long()
        >>> labels[:, 4:9, 4:9] = 1
        >>> hausdorff95(labels.roll(2, -1), labels, C=2)[0, 1]
        tensor(2., dtype=torch.float64)

    Reference:
        Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE Trans. PAMI 1993.
    """
    who = "hausdorff95"
    percentile = python_scalar(percentile)
    fine = is_number(percentile) and 0 <= percentile <= 100
    check_option(who, "percentile", fine, "a number from 0 to 100", percentile)

    def measure(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([quantile(*pair, percentile / 100) for pair in pairs]).amax(0)

    return distances_of(who, preds, labels, C, spacing, empty, ignore, measure)


@torch.no_grad()
def surface_distance(
    preds: Tensor,
    labels: Tensor,
    C: int,
    symmetric: bool = True,
    spacing: Spacing | None = None,
    empty: float | str = 0.0,
    ignore: int | None = None,
) -> Tensor:
    """Return the average distance of each class's surfaces, over the pixels of both (of the predicted one, if not symmetric).

    Args:
        preds, labels, C, spacing, empty, ignore: as for :func:`hausdorff95`, which says what a surface is.
        symmetric: False measures from the predicted surface to the true one alone.

    Returns:
        float64 ``[B, C]``, as :func:`hausdorff95`.

    Raises:
        LossError: as for :func:`hausdorff95`.

    Example:
        >>> labels = torch.zeros(1, 16, 16).long()
        >>> labels[:, 4:9, 4:9] = 1
        >>> surface_distance(labels, labels, C=2)
        tensor([[0., 0.]], dtype=torch.float64)

    Reference:
        Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, IEEE Trans. Medical Imaging
        2009.
    """
    who = "surface_distance"
    symmetric = python_scalar(symmetric)
    check_option(who, "symmetric", isinstance(symmetric, bool), "True or False", symmetric)

    def measure(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        pairs = pairs if symmetric else pairs[:1]
        total = torch.stack([torch.where(on, far, 0.0).sum(1) for far, on in pairs]).sum(0)
        return total / torch.stack([on.sum(1) for _, on in pairs]).sum(0)

    return distances_of(who, preds, labels, C, spacing, empty, ignore, measure)


@torch.no_grad()
def cldice(
    preds: Tensor,
    labels: Tensor,
    C: int,
    empty: float | str = 1.0,
    ignore: int | None = None,
    fraction: bool = False,
) -> Tensor:
    """Return the centreline Dice of each class, ``2 Tp Ts / (Tp + Ts)``, in percent.

    Tp is the share of the predicted mask's skeleton that lies in the true mask, Ts the reverse. Skeletons are scikit-image's
    (``skeletonize``), as in the paper's code, on the host.

    Args:
        preds, labels, C: as for :func:`hausdorff95`, with two or three dimensions in space.
        empty: value, as a fraction, where a class is in neither; ``"skip"`` makes it NaN. In one of the two alone it has 0.
        ignore: label of the pixels that do not count: they are in no mask.
        fraction: return 0 to 1 in place of percent.

    Returns:
        float64 ``[B, C]``, as :func:`hausdorff95`.

    Raises:
        LossError: as for :func:`hausdorff95`; without scikit-image.

    Example:
        >>> labels = torch.zeros(1, 16, 16).long()
        >>> labels[:, 7:10, 2:14] = 1
        >>> cldice(labels, labels, C=2)
        tensor([[100., 100.]], dtype=torch.float64)

    Reference:
        Shit et al., clDice, CVPR 2021.
    """
    who = "cldice"
    fraction = python_scalar(fraction)
    check_option(who, "fraction", isinstance(fraction, bool), "True or False", fraction)
    rows, nothing = [], []
    for p, t, _ in masks_of(who, preds, labels, C, ignore):
        if p.dim() < 3:
            raise LossError(who, "preds", "[B, H, W] or [B, D, H, W]", f"{list(p.shape)}")
        shares = []
        for one, other in ((p, t), (t, p)):
            line = thinned(one, who)
            shares.append((line & other).flatten(1).sum(1).double() / line.flatten(1).sum(1).clamp_min(1))
        precision, sensitivity = shares
        both = precision + sensitivity
        rows.append(torch.where(both > 0, 2 * precision * sensitivity / torch.where(both > 0, both, 1.0), 0.0))
        nothing.append(~(p | t).flatten(1).any(1))
    values = filled(who, torch.stack(rows, 1), torch.stack(nothing, 1), empty, ignore)
    return values if fraction else 100 * values


@torch.no_grad()
def betti0_error(preds: Tensor, labels: Tensor, C: int, connectivity: int | None = None, ignore: int | None = None) -> Tensor:
    """Return how far the number of each class's connected parts is off: ``|parts predicted - parts true|``.

    Args:
        preds, labels, C: as for :func:`hausdorff95`.
        connectivity: along how many axes at once neighbours may step, as SciPy and scikit-image count it: 1 joins what shares a
            side; None, as many as there are axes, what shares a corner.
        ignore: label of the pixels that do not count: they are in no mask, so that they part what they lie between.

    Returns:
        float64 ``[B, C]``, as :func:`hausdorff95`.

    Raises:
        LossError: as for :func:`hausdorff95`.

    Example:
        >>> labels = torch.tensor([[[1, 1, 0, 1, 1]]])
        >>> betti0_error(torch.ones_like(labels), labels, C=2)
        tensor([[1., 1.]], dtype=torch.float64)

    Reference:
        Hu et al., Topology-preserving deep image segmentation, NeurIPS 2019.
    """
    who = "betti0_error"
    connectivity = python_scalar(connectivity)
    rows = []
    for p, t, _ in masks_of(who, preds, labels, C, ignore):
        axes = p.dim() - 1
        whole = isinstance(connectivity, int) and not isinstance(connectivity, bool) and 1 <= connectivity <= axes
        check_option(who, "connectivity", connectivity is None or whole, f"None or an integer from 1 to {axes}", connectivity)
        found, true = (parts_of(mask, connectivity or axes) for mask in (p, t))
        rows.append((found - true).abs().double())
    values = torch.stack(rows, 1)
    return filled(who, values, torch.zeros_like(values, dtype=torch.bool), 0.0, ignore)


def masks_of(who: str, preds: Tensor, labels: Tensor, C: int, ignore: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield each class's predicted and true mask ``[B, *S]`` and what counts, after the arguments are checked."""
    preds, labels = plain((preds, labels))
    C, ignore = map(python_scalar, (C, ignore))  # noqa: N806
    check_classes(who, C, ignore)
    check_maps(who, preds, labels, True, False)
    check_option(who, "preds", preds.dim() <= MOST + 1 and preds.numel() > 0, "class maps [B, *S] with pixels", list(preds.shape))
    found, truth = preds.long(), labels.long()
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    check_range(who, "labels", truth, counted, C, ignore)
    check_range(who, "preds", found, counted, C, ignore)
    for k in range(C):
        yield (found == k) & counted, (truth == k) & counted, counted


def filled(who: str, values: Tensor, nothing: Tensor, empty: object, ignore: int | None) -> Tensor:
    """Return values ``[B, C]`` with what an empty class has, and NaN for the ignored one."""
    empty = python_scalar(empty)
    check_option(who, "empty", empty == "skip" or is_number(empty), "a number or 'skip'", empty)
    values = torch.where(nothing, torch.nan if empty == "skip" else float(empty), values)  # type: ignore[arg-type]
    if ignore is not None:
        values = torch.where(torch.arange(values.shape[1], device=values.device) == ignore, torch.nan, values)
    return values


Pairs = list[tuple[Tensor, Tensor]]
"""For each direction, distances to the other surface ``[B, P]``, and which pixels are of the one."""


def distances_of(
    who: str,
    preds: Tensor,
    labels: Tensor,
    C: int,
    spacing: Spacing | None,
    empty: object,
    ignore: int | None,
    measure: Callable[[Pairs], Tensor],
) -> Tensor:
    """Return what is measured between the surfaces of each class, ``[B, C]``."""
    with naming(who):
        steps = spacing_of(spacing, len(preds), preds.dim() - 1) if isinstance(preds, Tensor) else []
    flat = [number for own in steps for number in own]
    rows, nothing = [], []
    for p, t, counted in masks_of(who, preds, labels, C, ignore):
        surfaces = [surface(mask, counted) for mask in (p, t)]
        pairs = []
        for one, other in (surfaces, surfaces[::-1]):
            far = _run(~other, 0, NOBODY, flat, False, 0.0, 0.0, True).double().sqrt()
            pairs.append((far.flatten(1), one.flatten(1)))
        there = [mask.flatten(1).any(1) for mask in surfaces]
        alone = there[0] ^ there[1]
        rows.append(torch.where(alone, torch.inf, measure(pairs)))
        nothing.append(~(there[0] | there[1]))
    return filled(who, torch.stack(rows, 1), torch.stack(nothing, 1), empty, ignore)


def surface(mask: Tensor, counted: Tensor) -> Tensor:
    """Return the pixels of a mask ``[B, *S]`` with one beside them that is not of it, and counts or lies beyond the border."""
    other = torch.nn.functional.pad(counted & ~mask, (1,) * (2 * (mask.dim() - 1)), value=True)
    beside = torch.zeros_like(mask)
    for axis in range(1, mask.dim()):
        for start in (0, 2):
            part = other
            for at in range(1, mask.dim()):
                part = part.narrow(at, start if at == axis else 1, mask.shape[at])
            beside = beside | part
    return mask & beside


def quantile(values: Tensor, among: Tensor, share: float) -> Tensor:
    """Return the quantile of each row's values ``[B, P]`` among some of them, interpolated; NaN among none."""
    ordered = torch.where(among, values, torch.inf).sort(1).values
    count = among.sum(1, keepdim=True)
    place = share * (count - 1).clamp_min(0).double()
    low = place.floor()
    first, second = (ordered.gather(1, at.long().clamp_max(values.shape[1] - 1)) for at in (low, place.ceil()))
    found = torch.where(first == second, first, first + (second - first) * (place - low))
    return torch.where(count > 0, found, torch.nan)[:, 0]


def thinned(mask: Tensor, who: str) -> Tensor:
    """Return the skeletons of masks ``[B, *S]``, by scikit-image; of a solid volume, of which that leaves nothing, the mask."""
    try:
        from skimage.morphology import skeletonize  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        expected, hint = "given beside scikit-image, which has the skeletons", "pip install scikit-image"
        raise LossError(who, "preds", expected, "without it", hint) from None
    thin: Callable[..., Any] = skeletonize
    lines = [torch.from_numpy(thin(one.cpu().numpy())) > 0 for one in mask]
    return torch.stack([line if line.any() else one.cpu() for line, one in zip(lines, mask, strict=True)]).to(mask.device)
