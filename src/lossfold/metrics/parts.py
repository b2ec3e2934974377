"""How many connected parts masks have, in one, two and three dimensions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lossfold.metrics.matting_connectivity import roots_of_edges


def parts_of(mask: Tensor, connectivity: int) -> Tensor:
    """Return the number of connected parts of each mask ``[B, *S]``, int64 ``[B]``.

    Args:
        mask: booleans.
        connectivity: along how many axes at once neighbours may step.
    """
    if mask.device.type == "cpu":
        try:
            from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            pass
        else:
            joined = ndimage.generate_binary_structure(mask.dim() - 1, connectivity)
            return torch.tensor([ndimage.label(one.numpy(), joined)[1] for one in mask])
    return parts_by_edges(mask, connectivity)


def parts_by_edges(mask: Tensor, connectivity: int) -> Tensor:
    """Return the same by hooking pixels to each other; it waits for the device, as often as parts grow together."""
    nodes = torch.arange(mask.numel(), device=mask.device).view(mask.shape)
    ends: list[tuple[Tensor, Tensor]] = []
    for step in itertools.product((-1, 0, 1), repeat=mask.dim() - 1):
        if not 1 <= sum(map(abs, step)) <= connectivity or next(x for x in step if x) < 0:
            continue
        here, there = [slice(None)], [slice(None)]
        for x in step:
            here.append(slice(max(-x, 0), None if x <= 0 else -x))
            there.append(slice(max(x, 0), None if x >= 0 else x))
        both = mask[tuple(here)] & mask[tuple(there)]
        ends.append((nodes[tuple(here)][both], nodes[tuple(there)][both]))
    first, second = (torch.cat(side) for side in zip(*ends, strict=True))
    root = roots_of_edges(first, second, mask.numel())
    alone = mask & (root.view(mask.shape) == nodes)
    return alone.flatten(1).sum(1)
