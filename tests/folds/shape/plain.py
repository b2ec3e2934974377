"""Hausdorff and clDice as people write them in PyTorch, with SciPy's distances, at the dtype of the scores."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from tests.contract.case import Data
from tests.folds.shape.oracles import Options


def depth(mask: Tensor, counted: Tensor, step: float) -> Tensor:
    found = np.zeros(tuple(mask.shape))
    masks, all_seen = mask.cpu().numpy(), counted.cpu().numpy()
    for index in np.ndindex(*mask.shape[:2]):
        inside, seen = masks[index], all_seen[index]
        for side in (inside, ~inside):
            if (seen & ~side).any():
                far = ndimage.distance_transform_edt(~(seen & ~side), sampling=step)
                found[index] += np.where(seen & side, far, 0)
    return torch.from_numpy(found).to(mask.device)


def pool(image: Tensor, counted: Tensor, block: bool) -> Tensor:
    """The maximum over the block, or the minimum along the axes."""
    fill = -torch.inf if block else torch.inf
    wide = functional.pad(torch.where(counted, image, fill), (1, 1) * (image.dim() - 2), value=fill)
    parts = []
    for away in itertools.product((0, 1, 2), repeat=image.dim() - 2):
        if block or sum(x != 1 for x in away) <= 1:
            part = wide
            for axis, start in enumerate(away):
                part = part.narrow(axis + 2, start, image.shape[axis + 2])
            parts.append(part)
    return torch.stack(parts).amax(0) if block else torch.stack(parts).amin(0)


def skeleton(image: Tensor, counted: Tensor, iterations: int) -> Tensor:
    found = torch.zeros_like(image)
    for _ in range(iterations + 1):
        eroded = pool(image, counted, block=False)
        delta = torch.where(counted, (image - pool(eroded, counted, block=True)).relu(), 0)
        found = found + (delta - found * delta).relu()
        image = eroded
    return found


def evaluate(name: str, data: Data, options: Options, labels: bool) -> Tensor:
    """The value of a registered loss, options as its constructor takes them."""
    z, target = data.pred, data.truth
    classes, space = z.shape[1], tuple(range(2, z.dim()))
    ignored = options.get("ignore_index", -100)
    if labels:
        counted = (target != ignored)[:, None].expand(z.shape)
        t = torch.stack([target == c for c in range(classes)], 1).to(z.dtype)
    else:
        counted = target != ignored if not target.is_floating_point() and target.dtype != torch.bool else torch.ones_like(z).bool()
        t = torch.where(counted, target.to(z.dtype), 0)
    w = torch.ones_like(z)
    if data.weight is not None:
        w = (data.weight if data.weight.dim() == z.dim() else data.weight[:, None]).to(z.dtype).expand(z.shape)
        counted = counted & (w.detach() != 0) if not data.weight.requires_grad else counted
    w = torch.where(counted, w, 0)
    link = options.get("link", "softmax")
    p = torch.where(counted, z if link == "identity" else z.softmax(1) if link == "softmax" else z.sigmoid(), 0)
    reduction, absent = options.get("reduction", "mean"), options.get("absent", "skip")
    v = torch.tensor(options.get("class_weight", [1.0] * classes), dtype=z.dtype, device=z.device)
    v = v * (torch.arange(classes, device=z.device) >= (0 if options.get("include_background", True) else 1))

    def summed(x: Tensor) -> Tensor:
        rows = x.sum(space)
        return rows if options.get("per_image") else rows.sum(0, keepdim=True)

    weight, true = summed(w), summed(w * t)
    something = weight.detach() != 0
    log, micro = options.get("log", False), options.get("average") == "micro"
    if name == "HausdorffDTLoss":
        step, alpha = options.get("spacing") or 1.0, options.get("alpha", 2.0)
        far = sum(depth(x.detach() > 0.5, counted, step).to(z.dtype) ** alpha for x in (p, t))
        costs = summed(w * (p - t) ** 2 * far) / torch.where(something, weight, 1)
    else:
        sp, st = (skeleton(x, counted, options.get("iterations", 3)) for x in (p, t))
        sums = [summed(w * x) for x in (sp, sp * t, st, st * p, p, t, p * t)]
        sums = [(v * x).sum(1, keepdim=True) for x in sums] if micro else sums
        costs = cldice(sums, options)
    if micro:
        above = torch.where(something.any(1, keepdim=True), costs, 0)
        below = something.any(1, keepdim=True).to(z.dtype)
        rows = above[:, 0]
    else:
        costs = torch.where((something if absent == "count" else true.detach() != 0), costs, 0)
        below = v * ((true.detach() if absent == "skip" else weight.detach()) != 0)
        above, rows = below * costs, below * (costs.log1p() if log else costs)
    if reduction == "none":
        return rows if options.get("per_image") else rows[0]
    above, below = above.sum(1), below.sum(1)
    if log:
        above, below = (above if reduction == "sum" else above / below.clamp_min(1e-30)).log1p(), (below != 0).to(z.dtype)
    if reduction == "sum":
        return above.sum()
    return (above / torch.where(below == 0, 1, below)).sum() / (below != 0).sum().clamp_min(1)


def cldice(sums: list[Tensor], options: Options) -> Tensor:
    s, dice_weight = options.get("smooth", 1.0), options.get("dice_weight", 0.0)

    def share(inside: Tensor, of: Tensor) -> Any:
        return torch.where(of + s == 0, 1, (inside + s) / torch.where(of + s == 0, 1, of + s))

    tp, ts = share(sums[1], sums[0]), share(sums[3], sums[2])
    loss = 1 - 2 * tp * ts / torch.where(tp + ts == 0, 1, tp + ts)
    return (1 - dice_weight) * loss + dice_weight * (1 - share(2 * sums[6], sums[4] + sums[5]))
