"""The definitions of the folds in plain PyTorch: what every faster engine has to equal.

They run on any device and dtype PyTorch has and are differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# The sums of a label fold, per class c (w: pixel weight, p: probability, y: label). A kind's code is its place here.
KINDS = (
    "weight",  # sum of w where y = c
    "prob",  # sum of w p_c
    "prob_sq",  # sum of w p_c^2
    "prob_at_label",  # sum of w p_c where y = c
    "nll",  # sum of -w log p_c where y = c
    "nll_all",  # sum of -w log p_c over all counted pixels
    "focal",  # sum of -w (1 - p_c)^gamma log p_c where y = c
    "focal_weight",  # sum of w (1 - p_c)^gamma where y = c
)
PROBABILITY_FLOOR = 1e-12  # with link="identity": -log p is -log(max(p, floor)), flat below


def label_fold(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    softmax: bool,
    kinds: list[int],
    gammas: list[float],
) -> Tensor:
    """Sum over the pixels, for each image and class, what ``kinds`` names.

    Args:
        scores: ``[B, C, *S]`` logits (``softmax=True``) or probabilities.
        labels: ``[B, *S]`` integers in ``[0, C)`` or ``ignore_index``.
        weight: ``[B, *S]`` float or bool pixel weights, or None for 1.
        ignore_index: the label of pixels that do not count.
        softmax: whether the scores are logits.
        kinds: codes of the wanted sums, the places of their names in ``KINDS``.
        gammas: the exponent of each kind that has one.

    Returns:
        ``[B, len(kinds), C]`` in float64 (float32 on devices without it).
    """
    dtype = torch.float32 if scores.device.type == "mps" else torch.float64
    shares = _label_shares(scores, labels, weight, ignore_index, softmax, kinds, gammas)
    return torch.stack([share.sum(-1, dtype=dtype) for share in shares], 1)


def label_map(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    coef: Tensor,
    ignore_index: int,
    softmax: bool,
    kinds: list[int],
    gammas: list[float],
) -> Tensor:
    """Return the fold's integrand: the sum over kinds k and classes c of ``coef[k, c]`` times each pixel's share.

    Args:
        coef: ``[len(kinds), C]``; the others as for :func:`label_fold`.

    Returns:
        ``[B, *S]`` in float32 (float64 for float64 scores), 0 at ignored pixels.
    """
    shares = _label_shares(scores, labels, weight, ignore_index, softmax, kinds, gammas)
    total = torch.stack([(share * c[:, None]).sum(1) for share, c in zip(shares, coef.to(_compute(scores)), strict=True)])
    return total.sum(0).reshape(labels.shape)


def _compute(scores: Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def _label_shares(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    softmax: bool,
    kinds: list[int],
    gammas: list[float],
) -> Iterator[Tensor]:
    """Yield ``[B, C, P]`` for each kind: what each pixel adds to each class's sum."""
    classes = scores.shape[1]
    y = labels.flatten(1)[:, None].long() if labels.dim() > 1 else labels[:, None, None].long()
    counted = y != ignore_index
    torch._assert_async(
        (~counted | ((y >= 0) & (y < classes))).all(),
        f"lossfold: a label is out of range [0, {classes}) and is not ignore_index={ignore_index}",
    )
    z = (scores.flatten(2) if scores.dim() > 2 else scores[..., None]).to(_compute(scores))
    w = torch.ones((), dtype=z.dtype, device=z.device)
    if weight is not None:
        w = weight.reshape(y.shape).to(z.dtype)
        if not weight.requires_grad:
            counted = counted & (w != 0)
    w = torch.where(counted, w, 0.0)
    y = torch.where(counted, y, 0)
    z = torch.where(counted, z, 0.0)  # an ignored pixel's scores are not even read: they may be infinite or NaN
    here = counted & (y == torch.arange(classes, device=z.device)[:, None])

    nll_all = -z.log_softmax(1) if softmax else -z.clamp_min(PROBABILITY_FLOOR).log()
    p = (-nll_all).exp() if softmax else z
    nll = nll_all.gather(1, y)
    miss = -torch.expm1(-nll) if softmax else 1 - z.gather(1, y)
    miss = miss.clamp_min(torch.finfo(z.dtype).tiny)  # keeps every power of it differentiable at p = 1

    for kind, gamma in zip(kinds, gammas, strict=True):
        match KINDS[kind]:
            case "weight":
                yield torch.where(here, w, 0.0)
            case "prob":
                yield w * p
            case "prob_sq":
                yield w * p * p
            case "prob_at_label":
                yield torch.where(here, w * p, 0.0)
            case "nll":
                yield torch.where(here, w * nll, 0.0)
            case "nll_all":
                yield w * nll_all
            case "focal":
                yield torch.where(here, w * miss**gamma * nll, 0.0)
            case "focal_weight":
                yield torch.where(here, w * miss**gamma, 0.0)
