"""The window fold: sums of SSIM's errors over all places of a Gaussian window, at one scale or several.

A place counts with the weight of the pixel in its middle; what the window covers is seen whether it counts or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from lossfold import engines
from lossfold.engines import cpp_window, eager_window
from lossfold.engines.spec import WINDOW_PADDINGS, WINDOW_SUMS
from lossfold.engines.spec import WindowSpec as WindowSpec
from lossfold.errors import LossError
from lossfold.folds.fold import check_gate, result_dtype


@dataclass(frozen=True)
class WindowFold:
    """What was collected: at every scale the sums of WINDOW_SUMS. Folds of the same images' tiles add up."""

    sums: tuple[Tensor, ...]  # of each scale, [B, 3, C] float64
    dtype: torch.dtype  # of the results

    def at(self, scale: int, kind: str) -> Tensor:
        """Return a sum of each image and channel, ``[B, C]``."""
        return self.sums[scale][:, WINDOW_SUMS.index(kind)]

    def only(self, loss: str, gate: Tensor) -> WindowFold:
        """Return the fold of the images that a gate ``[B]`` lets through."""
        keep = check_gate(loss, gate, self.sums[0])
        return replace(self, sums=tuple(torch.where(keep, one, 0.0) for one in self.sums))

    def __add__(self, other: WindowFold) -> WindowFold:
        if [one.shape for one in self.sums] != [one.shape for one in other.sums]:
            found = [list(one.shape) for one in other.sums]
            raise LossError("WindowFold", "other", f"sums {[list(one.shape) for one in self.sums]}", f"{found}")
        return replace(self, sums=tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)))


@dataclass(frozen=True)
class WindowGiven:
    """A call's arguments, checked: ``[B, C, H, W]``, the weight ``[B, 1, H, W]`` or ``[B, C, H, W]``."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None

    def merge(self, other: WindowGiven) -> WindowGiven:
        """Return the arguments of a pass that two calls share: they are the same."""
        return self

    def having(self, change: Callable[[Tensor], Tensor]) -> WindowGiven:
        """Return the arguments with another prediction, and another target if that takes a gradient, made of these."""
        target = change(self.target) if self.target.requires_grad else self.target
        return replace(self, pred=change(self.pred), target=target)


@dataclass(frozen=True)
class WindowNeeds:
    """What a loss wants collected. Losses whose needs :meth:`agree` share one pass, at as many scales as one of them has."""

    spec: WindowSpec
    engine: str | None

    def agree(self, other: object) -> bool:
        """Whether one pass can serve both."""
        return isinstance(other, WindowNeeds) and other.at(1) == self.at(1)

    def at(self, scales: int) -> WindowNeeds:
        """Return these needs at so many scales."""
        return replace(self, spec=replace(self.spec, scales=scales))

    def merge(self, other: WindowNeeds) -> WindowNeeds:
        """Return the needs of both."""
        return self.at(max(self.spec.scales, other.spec.scales))

    def each_image(self) -> WindowNeeds:
        """Return the same fold, of each image apart, which it is."""
        return self

    def collect(self, loss: str, given: WindowGiven) -> WindowFold:
        """Make the pass over tensors that have been checked."""
        spec = self.spec
        run = cpp_window if engines.select(loss, self.engine, given.pred, given.target, given.weight) == "cpp" else eager_window
        sums = tuple(run.window_fold(*tensors, *constants(spec)) for tensors in scales(given, spec))
        return WindowFold(sums, result_dtype(given.pred))


Constants = tuple[tuple[float, ...], float, float]


def constants(spec: WindowSpec) -> Constants:
    """Return what an engine takes beside tensors: the window, c1 and c2."""
    return spec.window, (spec.k1 * spec.data_range) ** 2, (spec.k2 * spec.data_range) ** 2


def scales(given: WindowGiven, spec: WindowSpec) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield predictions, targets and weights at each scale: means of 2x2 blocks (an odd side is cut), borders padded."""
    pred, target, weight = given.pred, given.target, given.weight
    radius = spec.window_size // 2
    for scale in range(spec.scales):
        if scale:
            dtype = result_dtype(pred)
            pred, target = (functional.avg_pool2d(one.to(dtype), 2) for one in (pred, target))
            weight = None if weight is None else functional.avg_pool2d(weight.to(dtype), 2)
        if spec.padding == "valid":
            inner = None if weight is None else weight[..., radius : pred.shape[2] - radius, radius : pred.shape[3] - radius]
            yield pred, target, inner
        else:
            # Not in halves: a border's pixel adds up the gradients of its reflections. Nor are there reflections of booleans.
            images = pred.to(result_dtype(pred)), target.to(result_dtype(pred))
            p, t = (functional.pad(image, (radius,) * 4, WINDOW_PADDINGS[spec.padding]) for image in images)
            yield p, t, weight
