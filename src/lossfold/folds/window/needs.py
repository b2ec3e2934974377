"""What losses ask of the window fold: sums of SSIM's errors over all places of a window, at one scale or several.

A place counts with the weight of the pixel in its middle; what the window covers is seen whether it counts or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from lossfold import engines
from lossfold.folds.checks import result_dtype
from lossfold.folds.collect import collect
from lossfold.folds.fold import Arguments, Fold, Needs
from lossfold.folds.looks import can_look, refuse_another_range, refuse_negative
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.needs import PairNeeds
from lossfold.folds.pair.spec import PairSpec, PairSum
from lossfold.folds.window import definition, eager, operators
from lossfold.folds.window.spec import BESIDE, CONSTANT, KINDS, PADDINGS, WindowSpec
from lossfold.folds.window.triton import lacks


@dataclass(frozen=True)
class WindowGiven(Arguments):
    """A call's arguments, checked: ``[B, C, *S]`` of two or three sides, the weight ``[B, *S]`` or ``[B, 1 or C, *S]``."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None

    def same(self, other: WindowGiven) -> bool:
        """Whether both hold the same tensors."""
        return self.pred is other.pred and self.target is other.target and self.weight is other.weight

    def having(self, change: Callable[[Tensor], Tensor]) -> WindowGiven:
        """Return the arguments with another prediction, and another target if that takes a gradient, made of these."""
        target = change(self.target) if self.target.requires_grad else self.target
        return replace(self, pred=change(self.pred), target=target)


@dataclass(frozen=True)
class WindowNeeds(Needs[WindowSpec]):
    """What a loss wants collected by a window fold: one pass serves several losses, at as many scales as one of them has."""

    def reads_alike(self, other: WindowSpec) -> bool:
        """Whether one pass can serve both."""
        return replace(other, scales=1, whole=(), beside=False) == replace(self.spec, scales=1, whole=(), beside=False)

    def joined(self, other: WindowSpec) -> WindowSpec:
        """Return the spec of a pass for both."""
        whole = tuple(sorted({*self.spec.whole, *other.whole}))
        return replace(self.spec, scales=max(self.spec.scales, other.scales), whole=whole, beside=self.spec.beside or other.beside)

    def collect(self, given: WindowGiven) -> Fold:
        """Make the pass over a call's arguments, which have been checked; the sums' numbers are the scales."""
        self.look(given)
        run = self.engine_for(given).among(eager, operators)
        sums, wanted = [], []
        for scale, tensors in enumerate(scales(given, self.spec)):
            whole = scale in self.spec.whole
            found = run.fold(*tensors, *self.spec.constants, whole)
            sums.append(found if whole else found[:, ::2])
            wanted += [(kind, float(scale)) for kind in (KINDS if whole else KINDS[::2])]
        if self.spec.beside:
            sums.append(self.differences(given))
            wanted += [(kind, 0.0) for kind in BESIDE]
        fixed = given.weight is None or not given.weight.requires_grad
        return Fold(
            sums[0] if len(sums) == 1 else torch.cat(sums, 1), tuple(wanted), result_dtype(given.pred), CONSTANT if fixed else ()
        )

    def differences(self, given: WindowGiven) -> Tensor:
        """Return the sums of BESIDE, ``[B, 2, C]``: those of the pair fold."""
        where = "" if given.weight is None else "weight"
        sums = PairSum("weight", 0.0, where), PairSum("abs", 0.0, where)
        regions = {} if given.weight is None else {"weight": given.weight}
        of_pixels = PairGiven(given.pred, given.target, regions, frozenset(), tuple(given.pred.shape))
        needs = PairNeeds(PairSpec(self.spec.link, sums), self.engine, apart=True)
        return collect(needs, of_pixels).sums

    def once(self, given: WindowGiven, above: Tensor) -> Tensor:
        """Return sums of SSIM's errors and absolute differences, times ``above [2, C]``; the same pass finds the gradient."""
        self.look(given)
        weight = None if given.weight is None else with_channel(given.weight, given.pred)
        return operators.once(given.pred, given.target, weight, above, *self.spec.constants, self.spec.border)

    def has_once(self, given: WindowGiven) -> bool:
        """Whether the engine that serves a call finds its value and gradient in one pass."""
        plain = self.spec.link == "identity" and self.spec.padding != "reflect" and given.pred.numel() > 0
        return plain and self.engine_for(given).name == "cpp"

    def engine_for(self, given: WindowGiven) -> engines.Engine:
        """Return the engine that serves a call."""
        volumes = given.pred.dim() == 5
        return engines.select(self.engine, given.pred, given.target, given.weight, lacks=lacks(self.spec, volumes))

    def look(self, given: WindowGiven) -> None:
        """Refuse weights below 0, and images that span far more than ``data_range``."""
        refuse_negative("weight", given.weight, self.validate)
        if can_look(given.target, self.validate):
            weight = given.weight
            counted = None if weight is None else with_channel(weight, given.pred) != 0
            refuse_another_range(given.target, counted, self.spec.data_range)

    def integrate(self, given: WindowGiven) -> Tensor:
        """Return 1 - SSIM at every place of the window, times its weight: a map of PyTorch's own in every engine."""
        self.look(given)
        ((pred, target, weight),) = scales(given, self.spec)
        return definition.integrand(pred, target, weight, *self.spec.constants)

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        size, count = self.spec.window_size, self.spec.scales
        window = f"{size}x{size} window" if self.spec.shape == "gaussian" else f"{size}x{size} {self.spec.shape} window"
        window += "" if self.spec.link == "identity" else f" of the {self.spec.link}"
        found = [f"SSIM at {count} scale{'s' if count > 1 else ''}", *(["abs"] if self.spec.beside else [])]
        return "window", f"{window}, padding={self.spec.padding}", found


def with_channel(weight: Tensor, pred: Tensor) -> Tensor:
    """Return a weight as ``[B, 1 or C, *S]``."""
    return weight.unsqueeze(1) if weight.dim() < pred.dim() else weight


def inside(weight: Tensor, border: int) -> Tensor:
    """Return weights ``[B, C, *S]`` without so many rows and columns at each side."""
    for axis in range(2, weight.dim()):
        weight = weight.narrow(axis, border, weight.shape[axis] - 2 * border)
    return weight


def scales(given: WindowGiven, spec: WindowSpec) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield predictions, targets and weights at each scale: means of blocks of side 2 (an odd side is cut), borders padded."""
    pred, target, weight = given.pred, given.target, given.weight
    weight = None if weight is None else with_channel(weight, pred)
    pred = pred.to(result_dtype(pred)).sigmoid() if spec.link == "sigmoid" else pred
    radius, sides = spec.window_size // 2, pred.dim() - 2
    halved = functional.avg_pool2d if sides == 2 else functional.avg_pool3d
    for scale in range(spec.scales):
        if scale:
            dtype = result_dtype(pred)
            pred, target = (halved(one.to(dtype), 2) for one in (pred, target))
            weight = None if weight is None else halved(weight.to(dtype), 2)
        if spec.padding == "valid":
            yield pred, target, None if weight is None else inside(weight, radius)
        else:
            # Not in halves: a border's pixel adds up the gradients of its reflections. Nor are there reflections of booleans.
            images = pred.to(result_dtype(pred)), target.to(result_dtype(pred))
            p, t = (functional.pad(image, (radius,) * (2 * sides), PADDINGS[spec.padding]) for image in images)
            yield p, t, weight
