"""The definitions of the folds in plain PyTorch: what every faster engine has to equal.

They run on any device and dtype PyTorch has and are differentiable any number of times.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

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
    y, shares = _label_shares(scores, labels, weight, ignore_index, softmax, kinds, gammas)
    classes = scores.shape[1]
    return torch.stack([_by_label(share, y, classes) if share.shape[1] == 1 else _total(share) for share in shares], 1)


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
    y, shares = _label_shares(scores, labels, weight, ignore_index, softmax, kinds, gammas)
    total = torch.zeros((), dtype=_compute(scores), device=scores.device)
    for share, factors in zip(shares, coef.to(total), strict=True):
        at_label = share.shape[1] == 1
        total = total + (share * factors[y] if at_label else (share * factors[:, None]).sum(1, keepdim=True))
    return total.reshape(labels.shape)


def _total(share: Tensor, block: int = 1024) -> Tensor:
    """Sum the last dimension: in its own dtype within blocks, in float64 over them."""
    dtype = torch.float32 if share.device.type == "mps" else torch.float64
    if share.shape[-1] < block:
        return share.sum(-1, dtype=dtype)
    whole = share.shape[-1] // block * block
    blocks = share[..., :whole].reshape(*share.shape[:-1], whole // block, block).sum(-1)
    total: Tensor = blocks.sum(-1, dtype=dtype) + share[..., whole:].sum(-1, dtype=dtype)
    return total


def _by_label(share: Tensor, y: Tensor, classes: int) -> Tensor:
    """Sum ``[B, 1, P]`` within the pixels of each label: ``[B, C]``, in float64 and always in the same order."""
    if share.device.type == "cpu":
        zeros = share.new_zeros((len(share), classes), dtype=torch.float64)
        return zeros.scatter_add(1, y.squeeze(1), share.squeeze(1).double())
    # On other devices scatter_add adds in whatever order threads arrive; a masked sum does not.
    here = y == torch.arange(classes, device=y.device)[:, None]
    return _total(torch.where(here, share, 0.0))


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
) -> tuple[Tensor, list[Tensor]]:
    """Return the labels ``[B, 1, P]``, and what each pixel adds for each kind.

    That is ``[B, 1, P]`` for the label's class, or ``[B, C, P]`` for every class.
    """
    classes = scores.shape[1]
    y = labels.flatten(1)[:, None].long() if labels.dim() > 1 else labels[:, None, None].long()
    counted = y != ignore_index
    if not inside_transform():  # there, the indexing below finds a bad label
        torch._assert_async(
            (~counted | ((y >= 0) & (y < classes))).all(),
            f"lossfold: a label is out of range [0, {classes}) and is not ignore_index={ignore_index}",
        )
    z = (scores.flatten(2) if scores.dim() > 2 else scores[..., None]).to(_compute(scores)).contiguous()
    w = torch.ones((), dtype=z.dtype, device=z.device)
    if weight is not None:
        w = weight.reshape(y.shape).to(z.dtype)
        if not weight.requires_grad:
            counted = counted & (w != 0)
    w = torch.where(counted, w, 0.0)
    y = torch.where(counted, y, 0)
    z = torch.where(counted, z, 0.0)  # an ignored pixel's scores take no part: they may be infinite or NaN

    log_p = z.log_softmax(1) if softmax else z.clamp_min(PROBABILITY_FLOOR).log()
    nll = -log_p.gather(1, y)
    miss = -torch.expm1(-nll) if softmax else 1 - z.gather(1, y)
    miss = miss.clamp_min(torch.finfo(z.dtype).tiny)  # keeps every power of it differentiable at p = 1

    def share(kind: str, gamma: float) -> Tensor:
        match kind:
            case "weight":
                return w
            case "prob":
                return w * p
            case "prob_sq":
                return w * p * p
            case "prob_at_label":
                return w * p.gather(1, y)
            case "nll":
                return w * nll
            case "nll_all":
                return -w * log_p
            case "focal":
                return w * miss**gamma * nll
            case _:
                return w * miss**gamma

    wanted = [KINDS[kind] for kind in kinds]
    p = (log_p.exp() if softmax else z) if any(kind.startswith("prob") for kind in wanted) else z
    return y, [share(kind, gamma) for kind, gamma in zip(wanted, gammas, strict=True)]


def inside_transform() -> bool:
    """Whether a torch.func transform or a forward-mode level is active: operators without rules break there, or give nothing."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
