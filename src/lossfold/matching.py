"""Which prediction is which mask: costs of all pairs, and the cheapest assignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import LossError, is_number, python_scalar
from lossfold.folds.arithmetic import exactly
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe

ALPHA, GAMMA = 0.25, 2.0  # of the focal cost


def mask_costs(
    logits: Tensor, masks: Tensor, *, bce: float = 5.0, dice: float = 5.0, focal: float = 0.0, smooth: float = 1.0
) -> Tensor:
    """Return what each predicted mask costs as each true one, ``[N, M]``, without a graph.

    Over the P pixels or points of a pair, with p = sigmoid(logits)::

        bce · mean[-t log p - (1-t) log(1-p)] + dice · [1 - (2 Σpt + s) / (Σp + Σt + s)] + focal · mean[focal loss, γ = 2, α = 0.25]

    in one matrix product for cross entropy and focal loss, which are linear in t, and one for Dice: nothing of N·M·P elements.

    Args:
        logits: ``[N, *S]``, as ``[N, P]`` or ``[N, H, W]``; halves are computed in float32.
        masks: ``[M, *S]``, bool or numbers in [0, 1].
        bce, dice, focal: weights; Mask2Former's are the defaults, MaskDINO's and DETR's masks have ``bce=0, dice=1, focal=20``.
        smooth: s >= 0.

    Returns:
        ``[N, M]`` float32, or float64 of float64 logits.

    Raises:
        LossError: for shapes, dtypes or weights that do not fit.

    Example:
        >>> logits, masks = torch.randn(100, 112 * 112), torch.rand(7, 112 * 112) > 0.5
        >>> mask_costs(logits, masks).shape
        torch.Size([100, 7])

    Reference:
        Cheng et al., Mask2Former, CVPR 2022; Carion et al., DETR, ECCV 2020.
    """
    who = "mask_costs"
    if not isinstance(logits, Tensor) or logits.dim() < 2 or logits.dtype not in SCORE_DTYPES:
        raise LossError(who, "logits", "float mask logits [N, *S]", describe(logits))
    if not isinstance(masks, Tensor) or masks.is_complex() or masks.shape[1:] != logits.shape[1:]:
        raise LossError(who, "masks", f"[M, {', '.join(map(str, logits.shape[1:]))}]", describe(masks))
    if masks.device != logits.device:
        raise LossError(who, "masks", f"on the logits' device {logits.device}", str(masks.device))
    weights = {"bce": bce, "dice": dice, "focal": focal, "smooth": smooth}
    for name, weight in weights.items():
        weights[name] = weight = python_scalar(weight)
        if not is_number(weight) or (name == "smooth" and weight < 0):
            raise LossError(who, name, "a number" + " >= 0" * (name == "smooth"), repr(weight))
    with torch.no_grad(), exactly(logits):  # in float16 a share of a mean vanishes, and sums of many points overflow
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        z, t = logits.flatten(1).to(dtype), masks.flatten(1).to(dtype)
        points = max(1, z.shape[1])
        costs = z.new_zeros(len(z), len(t))
        if bce or focal:
            slope, base = _linear(z, bce / points, focal / points)
            costs = slope @ t.mT + base[:, None]
        if dice:
            p = z.sigmoid()
            above, below = 2 * (p @ t.mT) + smooth, p.sum(1)[:, None] + t.sum(1)[None] + smooth
            costs = costs + dice * (1 - torch.where(below == 0, 1.0, above / torch.where(below == 0, 1.0, below)))
        return costs


def _linear(z: Tensor, bce: float, focal: float) -> tuple[Tensor, Tensor]:
    """Return what is multiplied with t, ``[N, P]``, and what an empty mask costs, ``[N]``."""
    log_not = functional.softplus(z)  # -log(1-p); -log p is z less
    slope, base = -bce * z, bce * log_not
    if focal:
        p = z.sigmoid()
        empty = (1 - ALPHA) * p**GAMMA * log_not
        slope += focal * (ALPHA * (1 - p) ** GAMMA * (log_not - z) - empty)
        base += focal * empty
    return slope, base.sum(1)


def match(costs: Tensor | Sequence[Tensor]) -> Any:
    """Return the cheapest assignment of each image: which prediction is which object.

    The costs of all images go to the CPU in one transfer and the indices come back in one; SciPy assigns.

    Args:
        costs: ``[N, M]`` of one image, or a list of such tensors, one for each image, of any N and M; NaN and infinite costs are
            taken as larger than all others together.

    Returns:
        ``(predictions, objects)``, int64 ``[min(N, M)]`` each on the costs' device, in the order of the predictions; of a list of
        costs, a list of such pairs.

    Raises:
        LossError: for costs that are none, and without SciPy.

    Example:
        >>> predictions, objects = match(torch.tensor([[4.0, 1.0], [2.0, 0.0], [3.0, 2.0]]))
        >>> predictions.tolist(), objects.tolist()
        ([0, 1], [1, 0])

    Reference:
        Crouse, On implementing 2D rectangular assignment algorithms, IEEE TAES 2016; for queries: Carion et al., DETR, ECCV 2020.
    """
    many = not isinstance(costs, Tensor)
    tables = [costs] if isinstance(costs, Tensor) else list(costs)
    for table in tables:
        if not isinstance(table, Tensor) or table.dim() != 2 or not table.is_floating_point():
            raise LossError("match", "costs", "float tensors [N, M]", describe(table))
        if table.device != tables[0].device:
            raise LossError("match", "costs", f"all on {tables[0].device}", str(table.device))
    try:
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
    except ImportError:
        raise LossError("match", "costs", "assigned by SciPy", "SciPy is not installed", "pip install scipy") from None
    if not tables:
        return []
    device = tables[0].device
    flat = torch.cat([table.detach().flatten() for table in tables]).cpu().double()  # one transfer, whatever the number of images
    found, start = [], 0
    for table in tables:
        rows, columns = linear_sum_assignment(bounded(flat[start : start + table.numel()].view(table.shape)).numpy())
        found.append(torch.stack([torch.from_numpy(rows), torch.from_numpy(columns)]).long())
        start += table.numel()
    there = torch.cat(found, 1).to(device)
    pairs = [(part[0], part[1]) for part in torch.split(there, [one.shape[1] for one in found], 1)]
    return pairs if many else pairs[0]


def bounded(costs: Tensor) -> Tensor:
    """Return costs with numbers in the place of NaN and infinities: as large as it takes to avoid them, lest the others round."""
    known = costs[costs.isfinite()]
    low, high = (known.min(), known.max()) if known.numel() else (costs.new_zeros(()),) * 2
    apart = min(costs.shape) * (high - low) + high.abs() + low.abs() + 1
    return torch.where(costs == -torch.inf, low - apart, torch.where(costs.isfinite(), costs, high + apart))
