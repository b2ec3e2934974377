"""Euclidean distances to where masks and classes end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import forced, native
from lossfold.engines.transforms import inside_transform
from lossfold.errors import is_number, naming, wrong
from lossfold.folds.looks import can_look
from lossfold.shapes import definition, operators

Spacing = float | Sequence[float] | Sequence[Sequence[float]] | Tensor
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
NOBODY = -(2**63)
"""The label of no pixel."""
AT = {"both": (0.0, 0.0), "inner": (1.0, 0.0), "outer": (0.0, 1.0)}
"""Where signed distances are 0, as what is taken off inside and outside, in pixels."""


def distance_transform(mask: Tensor, spacing: Spacing | None = None, *, squared: bool = False) -> Tensor:
    """Return the exact Euclidean distance from each pixel of a mask to the nearest pixel that is not in it.

    Args:
        mask: bool ``[B, K, *S]``, with one to three dimensions in space, on any device.
        spacing: from pixel to pixel: one number, one for each axis of space, or ``[B, len(S)]`` for each sample; None: 1.
        squared: the squares of the distances, as float64, in place of them.

    Returns:
        float32 ``[B, K, *S]`` (float64 along a line of more than 2²⁴ pixels), 0 outside of the mask, and infinite where the mask
        covers all.

    Raises:
        LossError: for another dtype or shape, and for spacings that are no positive numbers.

    Gradient:
        None; a mask has none.

    Source:
        The lower envelope of parabolas: Felzenszwalb and Huttenlocher, Theory of Computing 8, 2012. Linear time on CPUs; elsewhere
        the definition's smallest sum over all differences of places.

    Example:
        >>> distance_transform(torch.tensor([[[False, True, True, True, False]]])).tolist()
        [[[0.0, 1.0, 2.0, 1.0, 0.0]]]
    """
    with naming("distance_transform"):
        if mask.dtype != torch.bool or not 3 <= mask.ndim <= definition.MOST + 2:
            got = f"{mask.dtype} {list(mask.shape)}"
            raise wrong("mask", "bool [B, K, *S] with S of one to three sizes", got, "mask > 0.5, or labels == c")
        steps = spacing_of(spacing, mask.shape[0], mask.ndim - 2)
        each = [number for own in steps for _ in range(mask.shape[1]) for number in own]
        return _run(mask.flatten(0, 1), 0, NOBODY, each, False, 0.0, 0.0, squared).view(mask.shape)


def signed_distance(
    target: Tensor,
    num_classes: int | None = None,
    *,
    ignore_index: int | None = None,
    spacing: Spacing | None = None,
    boundary: str = "both",
) -> Tensor:
    """Return the signed Euclidean distance of each pixel to the end of its mask, or of each class: negative inside, exact.

    Args:
        target: labels ``[B, *S]`` of integers with ``num_classes``, or masks ``[B, K, *S]`` of bool, on any device.
        num_classes: how many classes the labels have.
        ignore_index: the label of pixels that belong to no class: no distance is measured to them, and theirs is 0.
        spacing: from pixel to pixel: one number, one for each axis of space, or ``[B, len(S)]`` for each sample; None: 1.
        boundary: where the distance is 0. "both": nowhere, pixels on either side are at their distance to the other
            side (SciPy's two transforms, one less the other); "inner": at the outermost pixels inside (Kervadec's published
            code); "outer": at the innermost pixels outside. The last two take the smallest spacing off one side.

    Returns:
        float32 ``[B, num_classes, *S]`` or ``[B, K, *S]``; 0 for a class that is absent or covers everything.

    Raises:
        LossError: for another dtype or shape, labels without ``num_classes``, labels that are no classes (on CPUs), another word.

    Gradient:
        None; labels have none.

    Source:
        As :func:`distance_transform`; as a map of a loss: Kervadec et al., MIDL 2019.

    Example:
        >>> signed_distance(torch.tensor([[0, 0, 1, 1, 1, 0]]), 2, boundary="inner")[0, 1].tolist()
        [2.0, 1.0, 0.0, -1.0, 0.0, 1.0]
    """
    with naming("signed_distance"):
        if boundary not in AT:
            raise wrong("boundary", " or ".join(map(repr, AT)), repr(boundary))
        masks = target.dtype == torch.bool
        if not masks and target.dtype not in INTEGERS:
            raise wrong("target", "labels [B, *S] of integers, or masks [B, K, *S] of bool", str(target.dtype))
        if not 2 + masks <= target.ndim <= definition.MOST + 1 + masks:
            shape = "[B, K, *S]" if masks else "[B, *S]"
            raise wrong("target", f"{shape} with S of one to three sizes", str(list(target.shape)))
        if masks != (num_classes is None):
            raise wrong("num_classes", "left out for masks" if masks else "how many classes labels have", repr(num_classes))
        if masks and ignore_index is not None:
            raise wrong("ignore_index", "left out for masks, which are bool", repr(ignore_index), "use labels")
        if num_classes is not None and not (isinstance(num_classes, int) and 1 <= num_classes < 65535):
            raise wrong("num_classes", "an integer from 1 to 65534", repr(num_classes))
        steps = spacing_of(spacing, len(target), target.ndim - 1 - masks)
        least = {min(own) for own in steps} or {1.0}
        if len(least) > 1 and boundary != "both":
            raise wrong("spacing", "with the same smallest number for all samples", repr(spacing), "boundary='both' takes any")
        inner, outer = (one * min(least) for one in AT[boundary])
        if not masks:
            ignored = NOBODY if ignore_index is None else ignore_index
            _check_labels(target, num_classes or 0, ignored)
            flat = [number for own in steps for number in own]
            return _run(target, num_classes or 0, ignored, flat, True, inner, outer, False)
        each = [number for own in steps for _ in range(target.shape[1]) for number in own]
        return _run(target.flatten(0, 1), 0, NOBODY, each, True, inner, outer, False).view(target.shape)


def _check_labels(labels: Tensor, classes: int, ignored: int) -> None:
    """Refuse labels that are no classes, where looking at them waits for nothing."""
    if not can_look(labels, False):
        return
    wide = labels.long()
    others = wide[((wide < 0) | (wide >= classes)) & (wide != ignored)]
    if len(others):
        hint = "" if ignored == NOBODY else f"ignore_index is {ignored}"
        raise wrong(
            "target", f"labels from 0 to {classes - 1}", str(int(others[0])), hint or "ignore_index= names what does not count"
        )


def _run(given: Tensor, classes: int, ignore_index: int, *rest: Any) -> Tensor:
    """Call the compiled operator where it can serve, else the definition."""
    choice = forced(None)
    serves = not native.PROBLEM and choice in (None, "cpp") and not inside_transform()
    if given.device.type in ("cpu", "meta") and serves:
        given = given.to(torch.int64) if classes and given.dtype not in (torch.uint8, torch.int32) else given
        return operators.distance(given, classes, ignore_index, *rest)
    given = given.long() if classes else given
    return definition.distance(given, classes, ignore_index, *rest)


def spacing_of(spacing: Spacing | None, samples: int, axes: int) -> list[list[float]]:
    """Return each sample's spacing along each axis."""
    expected = f"a positive number, {axes} of them, or {axes} for each of {samples} samples"
    given: Any = spacing.tolist() if isinstance(spacing, Tensor) else 1.0 if spacing is None else spacing
    rows = [[given] * axes] * samples if is_number(given) else list(given) if isinstance(given, Sequence) else []
    rows = [list(rows)] * samples if rows and all(map(is_number, rows)) else rows
    fine = len(rows) == samples and all(len(own) == axes and all(is_number(n) and 0 < n < torch.inf for n in own) for own in rows)
    if not fine:
        raise wrong("spacing", expected, repr(spacing))
    return [[float(number) for number in own] for own in rows]
