"""Skeletons of masks, widened to tubes, by scikit-image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.engines.native import LIBRARY, NAMESPACE, OPERATORS
from lossfold.errors import naming, wrong

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
LIBRARY.define("skeleton(Tensor masks, bool tube) -> Tensor")


def tubed_skeleton(
    target: Tensor, num_classes: int | None = None, *, ignore_index: int | None = None, do_tube: bool = True
) -> Tensor:
    """Return the skeleton of each mask, or of each class, widened by a pixel to all sides, inside of the mask.

    For data loaders: it runs on the CPU, in scikit-image (``pip install scikit-image``), mask by mask.

    Args:
        target: labels ``[B, *S]`` of integers with ``num_classes``, or masks ``[B, K, *S]`` of bool, with one to three dimensions
            in space.
        num_classes: how many classes the labels have.
        ignore_index: the label of pixels that belong to no class.
        do_tube: False leaves the skeleton as thin as it is.

    Returns:
        bool ``[B, num_classes, *S]`` or ``[B, K, *S]``, on the target's device.

    Raises:
        LossError: for another dtype or shape, labels without ``num_classes``, and without scikit-image.

    Gradient:
        None; labels have none.

    Source:
        Thinning: Zhang and Suen, Communications of the ACM 27, 1984; of volumes: Lee et al., CVGIP 56, 1994. Tubes, as targets of a
        loss: Kirchhoff et al., ECCV 2024.

    Example:
        >>> tubed_skeleton(torch.tensor([[[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]]), 2)[0, 1].int().tolist()
        [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]]
    """
    with naming("tubed_skeleton"):
        masks = target.dtype == torch.bool
        if not masks and target.dtype not in INTEGERS:
            raise wrong("target", "labels [B, *S] of integers, or masks [B, K, *S] of bool", str(target.dtype))
        if masks != (num_classes is None):
            raise wrong("num_classes", "left out for masks" if masks else "how many classes labels have", repr(num_classes))
        check_space("target", target.shape[1 + masks :])
        host = target.cpu()
        found = of_masks(host, do_tube) if masks else of_labels(host, num_classes or 0, ignore_index, do_tube)
        return found.to(target.device)


def check_space(argument: str, space: torch.Size) -> None:
    """Refuse more dimensions in space than three, or none."""
    if not 1 <= len(space) <= 3:
        raise wrong(argument, "with one to three dimensions in space", f"{len(space)} of them")


def of_labels(labels: Tensor, classes: int, ignored: int | None, tube: bool) -> Tensor:
    """Return the skeletons of all classes, ``[B, C, *S]`` bool."""
    codes = torch.arange(classes, device=labels.device).view(1, -1, *[1] * (labels.dim() - 1))
    labels = labels.long()[:, None]  # a uint8 would compare equal to an ignored label below 0
    inside = labels == codes
    return of_masks(inside if ignored is None else inside & (labels != ignored), tube)


def of_masks(masks: Tensor, tube: bool) -> Tensor:
    """Return the skeletons of masks, ``[B, K, *S]`` bool."""
    if masks.dim() == 2:  # pixels by themselves
        return masks
    check_space("labels", masks.shape[2:])
    found: Tensor = OPERATORS.skeleton(masks, tube)
    return found


def _skeleton(masks: Tensor, tube: bool) -> Tensor:
    if not masks.numel():
        return torch.zeros_like(masks, memory_format=torch.contiguous_format)
    space = masks.shape[2:]
    planes = masks.reshape(-1, *(space if len(space) > 1 else (1, *space)))
    found = torch.zeros_like(planes)
    for index, plane in enumerate(planes):
        if plane.any():
            found[index] = torch.from_numpy(_thinned()(plane.numpy()))
    skeleton = found.reshape(masks.shape)
    return _widened(skeleton) & masks if tube else skeleton


def _widened(skeleton: Tensor) -> Tensor:
    """Dilate by a pixel to all sides."""
    flat = skeleton.flatten(0, 1)[:, None].float()
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[flat.dim() - 3]
    return (pool(flat, 3, 1, 1) > 0).view(skeleton.shape)


def _thinned() -> Any:
    try:
        from skimage.morphology import skeletonize
    except ImportError:
        raise wrong("skeleton", "given where scikit-image is not installed", "None", "pip install scikit-image") from None
    return skeletonize


torch.library.register_fake(
    f"{NAMESPACE}::skeleton", lambda masks, tube: torch.empty_like(masks, memory_format=torch.contiguous_format), lib=LIBRARY
)
LIBRARY.impl("skeleton", _skeleton, "CPU")
