"""Points of masks: where the prediction is least certain, and the values there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import LossError, is_number, python_scalar
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe


def sample_uncertain_points(
    logits: Tensor,
    num_points: int,
    *,
    oversample_ratio: float = 3.0,
    importance_ratio: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return points where masks are least certain, and some at random.

    Of ``oversample_ratio * num_points`` random points of each mask, the ``importance_ratio * num_points`` with the smallest
    ``|logit|`` are taken; the rest are new random points.

    Args:
        logits: ``[N, 1, H, W]`` mask logits, positive inside.
        num_points: P, points a mask.
        oversample_ratio: >= 1.
        importance_ratio: in [0, 1], the share of points chosen by their uncertainty.
        generator: of the random points, on the logits' device.

    Returns:
        ``[N, P, 2]`` float32 x and y in [0, 1], where 0 and 1 are the outer edges of the image; without a gradient.

    Raises:
        LossError: for shapes, dtypes or numbers that are out of range.

    Example:
        >>> logits, masks = torch.randn(4, 1, 32, 32), torch.rand(4, 1, 128, 128)
        >>> points = sample_uncertain_points(logits, 112)
        >>> sample_points(logits, points).shape, sample_points(masks, points).shape
        (torch.Size([4, 1, 112]), torch.Size([4, 1, 112]))

    Reference:
        Kirillov et al., PointRend, CVPR 2020; for training masks: Cheng et al., Mask2Former, CVPR 2022.
    """
    who = "sample_uncertain_points"
    if not isinstance(logits, Tensor) or logits.dim() != 4 or logits.shape[1] != 1 or logits.dtype not in SCORE_DTYPES:
        raise LossError(who, "logits", "float mask logits [N, 1, H, W]", describe(logits))
    num_points, oversample_ratio, importance_ratio = map(python_scalar, (num_points, oversample_ratio, importance_ratio))
    if not isinstance(num_points, int) or isinstance(num_points, bool) or num_points < 1:
        raise LossError(who, "num_points", "an integer >= 1", repr(num_points))
    if not (is_number(oversample_ratio) and oversample_ratio >= 1):
        raise LossError(who, "oversample_ratio", "a number >= 1", repr(oversample_ratio))
    if not (is_number(importance_ratio) and 0 <= importance_ratio <= 1):
        raise LossError(who, "importance_ratio", "in [0, 1]", repr(importance_ratio))
    with torch.no_grad():
        images, chosen = len(logits), int(importance_ratio * num_points)
        options: dict[str, Any] = {"device": logits.device} | ({} if generator is None else {"generator": generator})
        many = torch.rand(images, int(oversample_ratio * num_points), 2, **options)
        best = sample_points(logits, many).abs().squeeze(1).topk(chosen, dim=1, largest=False).indices
        others = torch.rand(images, num_points - chosen, 2, **options)
        return torch.cat([many.gather(1, best[..., None].expand(-1, -1, 2)), others], 1)


def sample_points(values: Tensor, points: Tensor, *, padding: str = "zeros") -> Tensor:
    """Return what maps are at points, bilinearly.

    Args:
        values: ``[N, C, H, W]`` numbers or booleans.
        points: ``[N, P, 2]`` x and y in [0, 1], where 0 and 1 are the outer edges of the image.
        padding: what lies beyond the centres of the outermost pixels: ``"zeros"``, as in PointRend and Mask2Former, or
            ``"border"``, those pixels' own values.

    Returns:
        ``[N, C, P]`` in the dtype of floats, else float32; differentiable in the values.

    Raises:
        LossError: for shapes that do not fit.

    Example:
        >>> sample_points(torch.eye(2)[None, None], torch.tensor([[[0.25, 0.25], [0.5, 0.5]]]))
        tensor([[[1.0000, 0.5000]]])
    """
    dense = isinstance(values, Tensor) and values.layout == torch.strided and not values.is_complex()
    if not dense or values.dim() != 4 or min(values.shape[2:]) == 0:
        raise LossError("sample_points", "values", "maps [N, C, H, W]", describe(values))
    floats = isinstance(points, Tensor) and points.is_floating_point()
    if not floats or points.dim() != 3 or points.shape[2] != 2 or len(points) != len(values) or points.device != values.device:
        raise LossError(
            "sample_points", "points", f"x and y in [0, 1], [{len(values)}, P, 2], on {values.device}", describe(points)
        )
    if padding not in ("zeros", "border"):
        raise LossError("sample_points", "padding", "'zeros' or 'border'", repr(padding))
    dtype = values.dtype if values.is_floating_point() else torch.float32
    values = values.to(torch.promote_types(dtype, torch.float32))  # half a pixel of a large map is less than halves resolve
    grid = (2 * points.to(values.dtype) - 1)[:, :, None]
    return functional.grid_sample(values, grid, padding_mode=padding, align_corners=False).squeeze(3).to(dtype)
