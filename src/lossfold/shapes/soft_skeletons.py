"""Soft skeletons by min and max pooling: in memory that does not grow with the iterations, with any number of derivatives.

With x₀ the image, xₖ₊₁ the minimum of xₖ over a pixel and its neighbours along each axis, and oₖ the maximum of xₖ₊₁ over the block
of 3 pixels a side, what an opening takes away is δₖ = relu(xₖ - oₖ), and the skeleton, as a union of all of it::

    S = 1 - Π (1 - δₖ),   k = 0 .. iterations

Every xₖ and oₖ is the value of one pixel of the image. Which one, the gradient follows forwards: places are found again beside the
values, step by step, and nothing is kept of the steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.engines.operators import differentiate
from lossfold.engines.transforms import inside_transform
from lossfold.errors import naming, python_scalar, wrong
from lossfold.folds.arithmetic import computed_in
from lossfold.folds.checks import check_floats
from lossfold.folds.fold import describe

MOST = 3  # dimensions of space


def soft_skeleton(image: Tensor, iterations: int = 3, counted: Tensor | None = None) -> Tensor:
    """Return the soft skeleton of each channel, ``1 - Π (1 - relu(xₖ - oₖ))``, with xₖ the k times eroded image and oₖ its opening.

    Erosion is the minimum over a pixel and its neighbours along each axis, the opening's dilation the maximum over 3 pixels a side;
    beyond the border is nothing. Values that two neighbours share count as the pixel's own.

    Args:
        image: ``[B, K, *S]`` of floats in [0, 1], with one to three dimensions in space, on any device.
        iterations: how often it is eroded, at least half the width of what is to leave a skeleton.
        counted: bool ``[B, K, *S]`` or ``[B, 1, *S]``; what does not count is beyond the border, and 0 in the skeleton.

    Returns:
        ``[B, K, *S]`` in [0, 1]; float32, float64 for float64 images.

    Raises:
        LossError: for another dtype or shape, or a number of iterations below 0.

    Gradient:
        Exact. It takes no memory for the iterations.

    Example:
        >>> bar = torch.zeros(1, 1, 5, 7)
        >>> bar[..., 1:4, 1:6] = 1
        >>> soft_skeleton(bar, iterations=2)[0, 0, 2].tolist()
        [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]

    Reference:
        Shit et al., clDice, CVPR 2021.
    """
    with naming("soft_skeleton"):
        image = check_floats("image", image, "channel")
        if not 3 <= image.dim() <= MOST + 2:
            raise wrong("image", "[B, K, *S] with S of one to three sizes", describe(image))
        iterations = python_scalar(iterations)
        if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 0:
            raise wrong("iterations", "an integer >= 0", repr(iterations))
        shapes = [list(image.shape), [len(image), 1, *image.shape[2:]]]
        if counted is not None and (counted.dtype != torch.bool or list(counted.shape) not in shapes):
            raise wrong("counted", f"bool {shapes[0]} or {shapes[1]}", describe(counted))
        return skeleton(image.to(computed_in(image)), counted, iterations)


def skeleton(image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    """Return the soft skeleton of an image that is computed in its own dtype."""
    if not image.numel():
        return image.clone()
    if inside_transform():
        return definition(image, counted, iterations)
    if torch.compiler.is_compiling():
        return in_graphs(image.contiguous(), counted, iterations)  # type: ignore[no-any-return]
    return Skeleton.apply(image.contiguous(), counted, iterations)  # type: ignore[no-any-return]


def definition(image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    """Return the soft skeleton in plain steps, each of which autograd keeps."""
    left = torch.ones_like(image)
    for step in range(iterations + 1):
        eroded = pooled(image, counted, torch.inf)
        opened = pooled(eroded, counted, -torch.inf)
        left = left * (1 - removed(image, opened, counted))
        image = eroded if step < iterations else image
    return 1 - left


def removed(image: Tensor, opened: Tensor, counted: Tensor | None) -> Tensor:
    """Return what an opening takes away."""
    delta = (image - opened).relu()
    return delta if counted is None else torch.where(counted, delta, 0.0)


def pooled(image: Tensor, counted: Tensor | None, fill: float) -> Tensor:
    """Return the minimum over the neighbours along each axis (``fill`` infinite), or the maximum over the block (the other)."""
    source = image if counted is None else torch.where(counted, image, fill)
    best = source
    for axis in range(2, image.dim()):
        beside = [0, 0] * (image.dim() - axis - 1) + [1, 1]
        around = functional.pad(source, beside, value=fill)
        for start in (2, 0):
            other = around.narrow(axis, start, image.shape[axis])
            best = torch.where(other > best if fill < 0 else other < best, other, best)
        source = best if fill < 0 else source  # a block's next axis sees what this one found
    return best


def fast(image: Tensor, counted: Tensor | None, fill: float) -> Tensor:
    """Return what :func:`pooled` does, without a gradient, in place over slices."""
    pick = torch.maximum if fill < 0 else torch.minimum
    source = image if counted is None else torch.where(counted, image, fill)
    best = source.clone()
    for axis in range(2, image.dim()):
        for here, there in facing(best, source, axis):
            pick(here, there, out=here)
        source = best.clone() if fill < 0 and axis < image.dim() - 1 else source
    return best


def tracked(image: Tensor, places: Tensor, counted: Tensor | None, fill: float) -> tuple[Tensor, Tensor]:
    """Return what :func:`pooled` does, and where in the image each value came from."""
    source, origin = image if counted is None else torch.where(counted, image, fill), places
    best, at = source.clone(), origin.clone()
    better: Callable[[Tensor, Tensor], Tensor] = torch.gt if fill < 0 else torch.lt
    for axis in range(2, image.dim()):
        for (here, there), (mine, other) in zip(facing(best, source, axis), facing(at, origin, axis), strict=True):
            wins = better(there, here)
            torch.where(wins, there, here, out=here)
            torch.where(wins, other, mine, out=mine)
        if fill < 0 and axis < image.dim() - 1:
            source, origin = best.clone(), at.clone()
    return best, at


def facing(best: Tensor, source: Tensor, axis: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixels that have a neighbour along an axis, with these: first the one after, then the one before."""
    length = source.shape[axis] - 1
    yield best.narrow(axis, 0, length), source.narrow(axis, 1, length)
    yield best.narrow(axis, 1, length), source.narrow(axis, 0, length)


def lean(image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    """Return the soft skeleton; what the backward needs of the steps it finds again."""
    left = torch.ones_like(image)
    for _ in range(iterations + 1):
        eroded = fast(image, counted, torch.inf)
        left.mul_(1 - removed(image, fast(eroded, counted, -torch.inf), counted))
        image = eroded
    return 1 - left


def slope(grad: Tensor, image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    """Return the image's gradient: Σₖ g Πⱼ≠ₖ(1 - δⱼ), given to the pixel that xₖ came from and taken from the one of oₖ."""
    product, zeros, step = torch.ones_like(image), torch.zeros_like(image, dtype=torch.int32), image
    for _ in range(iterations + 1):
        eroded = fast(step, counted, torch.inf)
        left = 1 - removed(step, fast(eroded, counted, -torch.inf), counted)
        none = left == 0
        product.mul_(left.masked_fill_(none, 1))
        zeros += none
        step = eroded
    found = torch.zeros_like(image).flatten(2)
    places = torch.arange(found.shape[2], dtype=torch.int32, device=image.device).view(image.shape[2:]).expand(image.shape)
    step = image
    for _ in range(iterations + 1):
        eroded, origins = tracked(step, places, counted, torch.inf)
        opened, sources = tracked(eroded, origins, counted, -torch.inf)
        delta = removed(step, opened, counted)
        left, apart = 1 - delta, delta == 1
        others = torch.where(apart, (zeros == 1) * product, (zeros == 0) * product / left.masked_fill(apart, 1))
        share = torch.where(delta > 0, grad * others, 0.0).flatten(2)
        found.scatter_add_(2, places.flatten(2).long(), share)
        found.scatter_add_(2, sources.flatten(2).long(), share.neg_())
        step, places = eroded, origins
    return found.view(image.shape)


class Skeleton(torch.autograd.Function):
    """The soft skeleton, which keeps its image alone for the backward."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
        """Return the soft skeleton."""
        ctx.iterations = iterations
        ctx.save_for_backward(image, counted)
        return lean(image, counted, iterations)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient; with ``create_graph`` the definition's, which has all further derivatives."""
        image, counted = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiate(image, (definition(image, counted, ctx.iterations),), (grad,)), None, None
        return slope(grad.contiguous(), image, counted, ctx.iterations), None, None


# Operators, so that graphs keep no more than the image either; called in graphs only, as the first call imports the compiler.
in_graphs = torch.library.custom_op("lossfold_shapes::soft_skeleton", lean, mutates_args=())
slope_in_graphs = torch.library.custom_op("lossfold_shapes::soft_skeleton_slope", slope, mutates_args=())


@in_graphs.register_fake
def _(image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    return torch.empty_like(image)


@slope_in_graphs.register_fake
def _(grad: Tensor, image: Tensor, counted: Tensor | None, iterations: int) -> Tensor:
    return torch.empty_like(image)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor | None, int], output: Tensor) -> None:
    image, counted, ctx.iterations = inputs
    ctx.save_for_backward(image, counted)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    image, counted = ctx.saved_tensors
    return slope_in_graphs(grad.contiguous(), image, counted, ctx.iterations), None, None


in_graphs.register_autograd(_backward, setup_context=_save)
