"""Trimaps: the map of the unknown that matting losses and metrics take, and trimaps made from an alpha."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.errors import LossError, is_number, python_scalar
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.kinds import listed

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
WIDEST = 1000  # pixels of erosion and dilation; squares of distances stay exact in float32 far beyond it


def region_from_trimap(trimap: Tensor) -> Tensor:
    """Return the map of the unknown of a trimap: 1 where it is unknown, 0 where it is known.

    Args:
        trimap: of any shape; integers 0 (background), 128 (unknown), 255 (foreground), or floats 0, 0.5, 1. No other value is
            guessed at.

    Returns:
        The region, of the trimap's shape, in the dtype of floats, else float32.

    Raises:
        LossError: for other dtypes and values (values off the CPU and in compiled code: an assert on the device).

    Example:
        >>> region_from_trimap(torch.tensor([[0, 128, 255]], dtype=torch.uint8))
        tensor([[0., 1., 0.]])
    """
    who, accepted = "region_from_trimap", "a trimap of integers 0, 128, 255 or floats 0, 0.5, 1"
    if not isinstance(trimap, Tensor) or trimap.dtype not in (*SCORE_DTYPES, *INTEGERS):
        boolean = isinstance(trimap, Tensor) and trimap.dtype == torch.bool
        hint = "if True means unknown, this is the region already" if boolean else ""
        raise LossError(who, "trimap", accepted, describe(trimap), hint)
    background, unknown, foreground = (0.0, 0.5, 1.0) if trimap.is_floating_point() else (0, 128, 255)
    # In int64 before anything is compared: 128 does not fit into int8.
    values = trimap if trimap.is_floating_point() else trimap.long()
    bad = (values != background) & (values != unknown) & (values != foreground)
    if not _at_once(bad):
        torch._assert_async(~bad.any(), f"lossfold: trimap of {who} has values other than {background}, {unknown}, {foreground}")
    elif bad.any():
        raise LossError(who, "trimap", accepted, f"{describe(trimap)} with {_some(values[bad])}", _advice(values))
    return (values == unknown).to(trimap.dtype if trimap.is_floating_point() else torch.float32)


def trimap_from_alpha(alpha: Tensor, erode: float = 10, dilate: float = 10) -> Tensor:
    """Return the trimap of an alpha: what lies deep in the opaque or in the transparent part is known.

    Foreground is the erosion of ``alpha >= 1``, background what the dilation of ``alpha > 0`` leaves, unknown the rest. The
    structuring elements are discs, which the field uses (OpenCV's ellipses): a pixel is foreground if all pixels at a distance
    of at most ``erode`` are opaque. An ellipse of k x k pixels is about a width of (k - 1) / 2. What lies beyond the image's
    border does not count, so opaque pixels at the border stay foreground.

    Args:
        alpha: ``[..., H, W]`` floats in [0, 1] (resized ones may be 0.01 outside of it) or booleans.
        erode, dilate: the discs' radii in pixels, >= 0.

    Returns:
        The trimap, 0, 0.5 and 1, of the alpha's shape, in the dtype of floats, else float32; without a gradient.

    Raises:
        LossError: for shapes, dtypes or numbers that are out of range (alphas off the CPU and in compiled code: an assert on
            the device).

    Example:
        >>> trimap_from_alpha(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]), erode=1, dilate=2)
        tensor([[0.0000, 0.5000, 0.5000, 0.5000, 1.0000, 1.0000]])

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017.
    """
    who = "trimap_from_alpha"
    erode, dilate = python_scalar(erode), python_scalar(dilate)
    for name, width in (("erode", erode), ("dilate", dilate)):
        if not (is_number(width) and 0 <= width <= WIDEST):
            raise LossError(who, name, f"a number of pixels from 0 to {WIDEST}", repr(width))
    _check_alpha(who, alpha)
    with torch.no_grad():
        return _trimap(alpha, float(erode) ** 2, float(dilate) ** 2, int(erode), int(dilate))


def random_trimap(alpha: Tensor, widths: tuple[int, int] = (1, 30), generator: torch.Generator | None = None) -> Tensor:
    """Return trimaps for training: each map of the batch is eroded and dilated by random widths of its own.

    Args:
        alpha: as for :func:`trimap_from_alpha`; every ``[H, W]`` of it draws two widths.
        widths: the smallest and the largest radius in pixels, both included, all equally likely. Ellipses of 1 to 29 pixels
            are about ``(0, 14)``.
        generator: of the widths, on the alpha's device.

    Returns:
        As :func:`trimap_from_alpha`.

    Raises:
        LossError: as for :func:`trimap_from_alpha`.

    Example:
        >>> trimap = random_trimap(torch.rand(4, 1, 64, 64).round(), generator=torch.Generator().manual_seed(0))
        >>> trimap.shape, region_from_trimap(trimap).shape
        (torch.Size([4, 1, 64, 64]), torch.Size([4, 1, 64, 64]))

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017.
    """
    who = "random_trimap"
    found = listed(widths)
    whole = (
        isinstance(found, list)
        and len(found) == 2
        and all(isinstance(width, int) and not isinstance(width, bool) for width in found)
    )
    if not whole or not 0 <= found[0] <= found[1] <= WIDEST:
        raise LossError(who, "widths", f"two integers (smallest, largest) from 0 to {WIDEST}, in this order", repr(widths))
    _check_alpha(who, alpha)
    if generator is not None and generator.device.type != alpha.device.type:
        raise LossError(who, "generator", f"on the alpha's device {alpha.device}", str(generator.device))
    least, most = found
    with torch.no_grad():
        drawn = torch.randint(least, most + 1, (2, *alpha.shape[:-2], 1, 1), generator=generator, device=alpha.device)
        inward, outward = drawn.float().square()
        return _trimap(alpha, inward, outward, most, most)


def check_unit(who: str, name: str, values: Tensor, slack: float = 0.01, hint: str = "divide 0 to 255 by 255") -> None:
    """Refuse values outside of [0, 1]: with a LossError on CPU, elsewhere with an assert on the device.

    Args:
        who, name: the function and its argument.
        values: the argument.
        slack: how far outside values may be.
        hint: what to do about values far outside.
    """
    inside = (values >= -slack) & (values <= 1 + slack)
    if not _at_once(values):
        torch._assert_async(inside.all(), f"lossfold: {name} of {who} out of range [0, 1]")
    elif not inside.all():
        found = values[~inside].float()
        if found.isnan().any():
            raise LossError(who, name, "in [0, 1]", f"{int(found.isnan().sum())} values that are NaN")
        hint = hint if found.max() > 2 else "a little outside? .clamp(0, 1)"
        raise LossError(who, name, "in [0, 1]", f"values from {float(values.min()):g} to {float(values.max()):g}", hint)


def _at_once(values: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a graph."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _some(values: Tensor) -> str:
    found = sorted(set(values.flatten().tolist()))
    return f"values {', '.join(f'{value:g}' for value in found[:5])}{', ...' if len(found) > 5 else ''}"


def _advice(values: Tensor) -> str:
    if not values.is_floating_point():
        if bool((values >= 0).all()) and bool((values <= 2).all()):
            return "numbers of classes? take torch.tensor([0, 128, 255])[trimap.long()] if 1 is the unknown"
        return "resized or JPEG? resize with 'nearest'; or take what lies between as unknown: (trimap > 0) & (trimap < 255)"
    if bool((values > 1).any()):
        return "values of 0 to 255? take .to(torch.uint8)"
    return "128 / 255 is not 0.5: read the file as integers; resized? use 'nearest', or (trimap > 0) & (trimap < 1) as the region"


def _check_alpha(who: str, alpha: object) -> None:
    if not isinstance(alpha, Tensor) or alpha.dtype not in (*SCORE_DTYPES, torch.bool):
        integers = isinstance(alpha, Tensor) and alpha.dtype in INTEGERS
        hint = "take alpha / 255 of 0 to 255, .bool() of a mask of 0 and 1" if integers else ""
        raise LossError(who, "alpha", "a float or bool tensor [..., H, W]", describe(alpha), hint)
    if alpha.dim() < 2 or alpha.layout != torch.strided:
        raise LossError(who, "alpha", "a dense tensor [..., H, W]", describe(alpha))
    if alpha.is_floating_point():
        check_unit(who, "alpha", alpha)


def _trimap(alpha: Tensor, inward: Tensor | float, outward: Tensor | float, erode: int, dilate: int) -> Tensor:
    """Return the trimap for squared radii, numbers or ``[..., 1, 1]``, of which ``erode`` and ``dilate`` are upper limits."""
    foreground = squared_distance(alpha < 1, erode) > inward
    background = squared_distance(alpha > 0, dilate) > outward
    dtype = alpha.dtype if alpha.is_floating_point() else torch.float32
    return (foreground.to(dtype) - background.to(dtype) + 1) / 2


def squared_distance(mask: Tensor, reach: int) -> Tensor:
    """Return each pixel's squared distance to the nearest pixel of a mask ``[..., H, W]``, right up to ``reach``, else larger.

    The square of a distance is the sum of the squares along both axes: scans give the distance g to the mask inside each column,
    then the minimum over dx of g(x + dx)^2 + dx^2 is that of the plane.
    """
    height, width = mask.shape[-2:]
    if mask.numel() == 0:
        return mask.float()
    rows = torch.arange(height, device=mask.device)[:, None]
    far = height + width + reach
    above = rows - torch.where(mask, rows, -far).cummax(-2).values
    below = torch.where(mask, rows, height + far).flip(-2).cummin(-2).values.flip(-2) - rows
    # Beyond the reach any larger number will do: small ones stay exact in float32.
    column = torch.minimum(above, below).clamp_max(reach + 1).float().square()
    nearest = column.clone()
    for dx in range(1, min(reach, width - 1) + 1):
        beside = column + dx * dx
        nearest[..., dx:].clamp_max_(beside[..., :-dx])
        nearest[..., :-dx].clamp_max_(beside[..., dx:])
    return nearest
