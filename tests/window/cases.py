"""What the contract suite of the window fold runs over: every loss that compares images through a window, and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.cases import ENGINES, WINDOW_LOSSES, Case, value

WEIGHTS = ("soft", "bool", "channels", "flat")
"""Floats [B, 1, H, W], booleans [B, 1, H, W], floats [B, C, H, W], floats [B, H, W]."""


class WindowCase(Case):
    """One registered loss of images with one of its option sets."""

    def changed(self, **extra: Any) -> WindowCase:
        return WindowCase(self.name, self.options | extra)

    @property
    def side(self) -> int:
        """The smallest side that the loss takes."""
        return int(self.changed(engine=None).build().smallest_side)  # type: ignore[arg-type, operator]

    @property
    def maps(self) -> bool:
        """Whether the result is a number for each place of the window."""
        return self.name == "SSIMLoss" and self.options.get("reduction") == "none"

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that serve it: maps are PyTorch's own."""
        return ("eager",) if self.maps else tuple(ENGINES)

    @property
    def data_range(self) -> float:
        return float(self.options.get("data_range", 1.0))


def window_cases() -> list[WindowCase]:
    """Every loss with each of its samples; the first also summed, unreduced and by samples."""
    found = []
    for name in WINDOW_LOSSES:
        plain = [WindowCase(name, dict(options)) for options in lf.LOSSES[name].samples]
        found += plain
        found += [plain[0].changed(reduction="sum"), plain[0].changed(reduction="none"), plain[0].changed(sample_wise=True)]
    return found


def samples() -> list[WindowCase]:
    """Every loss with each of its samples, and a map."""
    return [case for case in window_cases() if "reduction" not in case.options or case.maps]


def small(case: WindowCase) -> WindowCase:
    """The case with a window of five, for what takes a time that grows with the square of the pixels."""
    return case.changed(window_size=5, sigma=1.0)


def every_window_case(*, engines: Iterable[str] = ENGINES, among: list[WindowCase] | None = None) -> pytest.MarkDecorator:
    """Parametrize `case` over every sample, each forced onto every available engine."""
    params = [
        pytest.param(case.changed(engine=engine), id=f"{engine}-{case.id}")
        for case in (window_cases() if among is None else among)
        for engine in engines
        if engine in case.engines
    ]
    return pytest.mark.parametrize("case", params)


@dataclass
class WindowData:
    """One call's arguments."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None = None

    @property
    def call(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.pred, self.target, self.weight

    def leaf(self) -> WindowData:
        """The same values as a fresh leaf that asks for a gradient."""
        return WindowData(self.pred.detach().clone().requires_grad_(), self.target, self.weight)

    def double(self) -> WindowData:
        weight = self.weight if self.weight is None or self.weight.dtype == torch.bool else self.weight.double()
        return WindowData(self.pred.detach().double(), self.target.double(), weight)

    def each(self, change: Callable[[Tensor], Tensor]) -> WindowData:
        """The data with every tensor changed alike."""
        return WindowData(change(self.pred), change(self.target), None if self.weight is None else change(self.weight))


def make_images(
    case: WindowCase,
    space: tuple[int, int] | None = None,
    *,
    batch: int = 2,
    channels: int = 2,
    dtype: torch.dtype = torch.float64,
    weight: str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> WindowData:
    """Two random images that are alike enough for a positive contrast at every scale, of the case's range.

    Weights are None or of WEIGHTS: a third 0, the others up to 1.25.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    side = case.side
    shape = batch, channels, *((side + 3, side + 6) if space is None else space)
    target = random(*shape)
    pred = 0.7 * target + 0.3 * random(*shape)
    where = None
    if weight is not None:
        where = random(*{"channels": shape, "flat": (batch, *shape[2:])}.get(weight, (batch, 1, *shape[2:])))
        where = where > 0.4 if weight == "bool" else (1.875 * where - 0.625).clamp(min=0)
        where = where if weight == "bool" else where.to(torch.float64 if dtype == torch.float64 else torch.float32)
        where = where.to(device)
    return WindowData(*((case.data_range * image).to(dtype).to(device) for image in (pred, target)), where)


def run(loss: nn.Module, data: WindowData) -> Tensor:
    """What there is to differentiate."""
    return value(loss(*data.call))


def evaluate(loss: nn.Module, data: WindowData, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient; a result that is not a scalar is contracted with `cotangent` or with ones."""
    data = data.leaf()
    result = run(loss, data)
    seed = torch.ones_like(result) if cotangent is None else cotangent.to(result)
    (gradient,) = torch.autograd.grad(result, data.pred, seed)
    return result.detach(), gradient
