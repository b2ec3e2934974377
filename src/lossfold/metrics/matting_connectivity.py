"""The largest connected part of masks, in batched tensor code: what matting's connectivity error is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def levels_connected(pred: Tensor, target: Tensor, levels: Sequence[float]) -> Tensor:
    """Return how many levels each pixel is connected at, from the first on without a gap.

    Connected at a level are the pixels of the largest part in which both alphas reach it.

    Args:
        pred, target: alphas ``[B, H, W]``.
        levels: ascending.

    Returns:
        int64 ``[B, H, W]``, 0 to the number of levels.
    """
    connected = torch.ones_like(pred, dtype=torch.bool)
    found = torch.zeros_like(pred, dtype=torch.int64)
    both = torch.minimum(pred, target)
    for level in levels:
        # A level is rounded as the alphas are, so that 0.7 reaches 0.7 in every dtype.
        reached = both >= torch.full((), level, dtype=both.dtype, device=both.device)
        connected = connected & largest_part(reached)
        found = found + connected
    return found


def largest_part(mask: Tensor) -> Tensor:
    """Return the largest 4-connected part of each mask ``[B, H, W]``; of equal ones that whose first pixel comes first, by rows."""
    if torch.compiler.is_compiling():
        return largest_part_in_graphs(mask)  # type: ignore[no-any-return]
    if mask.device.type == "cpu" and mask.numel():
        try:
            from scipy import ndimage  # type: ignore[import-untyped]
        except ImportError:
            pass
        else:
            return torch.stack([_largest_by_labels(one, ndimage.label) for one in mask])
    return find_largest(mask, wait=mask.device.type == "cpu")


def _largest_by_labels(mask: Tensor, label: Callable[..., Any]) -> Tensor:
    """Return what :func:`largest_part` returns, by SciPy's labels, which are numbered in the order of their first pixels."""
    labels, count = label(mask.numpy())
    parts = torch.from_numpy(labels)
    if not count:
        return torch.zeros_like(mask)
    sizes = torch.bincount(parts.flatten(), minlength=count + 1)[1:]
    return parts == int((sizes == sizes.max()).nonzero()[0]) + 1


# An operator, because the number of rounds on the CPU depends on the data, which a compiled graph can't hold; called in graphs
# only, as the first call of any imports the whole compiler.
@torch.library.custom_op("lossfold_metrics::largest_part", mutates_args=())
def largest_part_in_graphs(mask: Tensor) -> Tensor:
    """Return what :func:`largest_part` returns, in a compiled graph."""
    return largest_part(mask)


@largest_part_in_graphs.register_fake
def _(mask: Tensor) -> Tensor:
    return torch.empty_like(mask, memory_format=torch.contiguous_format)


def find_largest(mask: Tensor, wait: bool) -> Tensor:
    """Return what :func:`largest_part` returns.

    Nodes are the horizontal runs, numbered in the order of their first pixels; edges join runs that touch vertically.

    Args:
        mask: boolean ``[B, H, W]``.
        wait: whether counts may be waited for, which makes everything as small as the data allow.
    """
    images, height, width = mask.shape
    if mask.numel() == 0:
        return torch.zeros_like(mask, memory_format=torch.contiguous_format)
    mask = mask.contiguous()
    before = functional.pad(mask, (1, 0))[..., :-1]
    run = ((mask & ~before).flatten().cumsum(0) - 1).clamp_min_(0).reshape(mask.shape)  # at other pixels any run will do
    # The first of the columns in which two runs touch stands for all.
    touch = mask[:, 1:] & mask[:, :-1]
    touch = touch & ~functional.pad(touch, (1, 0))[..., :-1]
    upper, lower = run[:, :-1], run[:, 1:]
    if wait:
        nodes = int(run[-1, -1, -1]) + 1
        root = roots_of_edges(upper[touch], lower[touch], nodes)
    else:
        most = height * ((width + 1) // 2)  # runs of an image
        nodes = images * most
        root = roots_without_waiting(upper.flatten(), lower.flatten(), touch.flatten(), nodes, most)
    length = torch.zeros(nodes, dtype=torch.int64, device=mask.device).index_add_(0, run.flatten(), mask.flatten().long())
    size = torch.zeros_like(length).index_add_(0, root, length)
    # The root is the part's first run: of equal sizes the lower number wins.
    rank = (size[root] * (nodes + 1) - root)[run].masked_fill_(~mask, -1)
    return mask & (rank == rank.amax((1, 2), keepdim=True))


def _hooks(first: Tensor, second: Tensor, nodes: int) -> Tensor:
    """Return each root's new parent, given the edges between roots; every root that has an edge gets or becomes a parent.

    Let m(r) be the smallest of r and its neighbours. A root with m(r) < r hooks to m(r). Any other, smaller than all of its
    neighbours v, hooks to the smallest m(v) if that is smaller than r; if none is, all its neighbours hook to it. Parents are
    smaller than their children, so there is no cycle, and the number of roots with edges at least halves.
    """
    own = torch.arange(nodes, device=first.device)
    near = own.scatter_reduce(0, first, second, "amin").scatter_reduce_(0, second, first, "amin")
    beyond = near.scatter_reduce(0, first, near[second], "amin").scatter_reduce_(0, second, near[first], "amin")
    return torch.where(near < own, near, beyond)


def roots_of_edges(first: Tensor, second: Tensor, nodes: int) -> Tensor:
    """Return the smallest node of each node's part, leaving out edges as soon as both ends have the same root."""
    root = torch.arange(nodes, device=first.device)
    while len(first):
        parent = _hooks(first, second, nodes)
        while True:
            further = parent[parent]
            if torch.equal(further, parent):
                break
            parent = further
        root, first, second = parent[root], parent[first], parent[second]
        apart = first != second
        first, second = first[apart], second[apart]
    return root


def roots_without_waiting(first: Tensor, second: Tensor, joined: Tensor, nodes: int, most: int) -> Tensor:
    """Return the same with a number of rounds that always suffices, for devices that are not to be waited for.

    Args:
        first, second: ends of the edges.
        joined: which of them are edges.
        nodes: the number of nodes.
        most: the largest number of nodes that one part can have.
    """
    root = torch.arange(nodes, device=first.device)
    # What is no edge joins a node to itself; not all of them the same one, at which the device would queue.
    spread = torch.arange(len(first), device=first.device) % nodes
    left = most
    while left > 1:
        first, second = torch.where(joined, first, spread), torch.where(joined, second, spread)
        parent = _hooks(first, second, nodes)
        for _ in range((left - 2).bit_length()):  # a tree is at most left - 1 deep, and each round halves its depth
            parent = parent[parent]
        root, first, second = parent[root], parent[first], parent[second]
        joined = first != second
        left //= 2
    return root
