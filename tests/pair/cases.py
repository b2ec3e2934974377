"""What the contract suite of the pair fold runs over: every loss of a prediction and a target alike, and its data."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.losses.pairs import PairLoss
from tests.cases import ENGINES, PAIR_LOSSES, Case, value

REGIONS = ("soft", "bool", "channels", "flat")
"""Floats [B, 1, *S], booleans [B, 1, *S], floats [B, C, *S], floats [B, *S]."""


class PairCase(Case):
    """One registered loss of a pair with one of its option sets."""

    @property
    def link(self) -> str:
        return str(self.options.get("link", self.options.get("alpha_link", "identity")))

    def changed(self, **extra: Any) -> PairCase:
        return PairCase(self.name, self.options | extra)

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(lf.LOSSES[self.name].forward).parameters.items())[1:])

    @property
    def composes(self) -> bool:
        return "pred_alpha" in self.arguments

    @property
    def is_set(self) -> bool:
        return issubclass(lf.LOSSES[self.name], lf.LossSet)

    @property
    def has_target(self) -> bool:
        return "target" in self.arguments or self.composes

    @property
    def region_argument(self) -> str:
        return next(name for name in ("weight", "region", "mask") if name in self.arguments)

    @property
    def needs_region(self) -> bool:
        return self.arguments[self.region_argument].default is inspect.Parameter.empty

    @property
    def images_only(self) -> bool:
        """Whether a filter takes it to two dimensions."""
        return self.is_set or bool(getattr(lf.LOSSES[self.name], "images_only", False))

    @property
    def spaces(self) -> tuple[tuple[int, ...], ...]:
        return ((6, 9),) if self.images_only else ((11,), (6, 9), (2, 3, 4))

    @property
    def pixelwise(self) -> bool:
        """Whether every pixel's loss is its own: no filter reaches to its neighbours."""
        return not self.images_only

    @property
    def steps(self) -> bool:
        """Whether it is of the steps from pixel to pixel, which have a direction: the weight is that of where they begin."""
        return "TV" in self.name

    @property
    def adds_up(self) -> bool:
        """Whether a batch's value is that of the sums of its parts: not where samples have values of their own."""
        return not self.options.get("sample_wise") and self.name != "PSNRLoss"

    @property
    def maps(self) -> bool:
        """Whether the result is a number for each pixel."""
        return self.options.get("reduction") == "none" and bool(getattr(lf.LOSSES[self.name], "has_map", False))

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that serve it: maps are PyTorch's own."""
        return ("eager",) if self.maps else tuple(ENGINES)


def pair_cases() -> list[PairCase]:
    """Every loss with each of its samples; the first also summed, unreduced and by samples."""
    found = []
    for name in PAIR_LOSSES:
        plain = [PairCase(name, dict(options)) for options in lf.LOSSES[name].samples]
        found += plain
        if plain and issubclass(lf.LOSSES[name], PairLoss):
            found += [plain[0].changed(reduction="sum"), plain[0].changed(reduction="none"), plain[0].changed(sample_wise=True)]
    return found


def one_case_a_loss() -> list[PairCase]:
    """Each loss with its first sample, and as a map where it has one."""
    chosen: dict[tuple[str, bool], PairCase] = {}
    for case in pair_cases():
        if case.maps or "reduction" not in case.options:
            chosen.setdefault((case.name, case.maps), case)
    return list(chosen.values())


def every_pair_case(*, engines: Iterable[str] = ENGINES, among: list[PairCase] | None = None) -> pytest.MarkDecorator:
    """Parametrize `case` over every sample, each forced onto every available engine."""
    params = [
        pytest.param(case.changed(engine=engine), id=f"{engine}-{case.id}")
        for case in (pair_cases() if among is None else among)
        for engine in engines
        if engine in case.engines
    ]
    return pytest.mark.parametrize("case", params)


@dataclass
class PairData:
    """One call's arguments: what is differentiated, what it is held against, and where."""

    pred: Tensor
    others: tuple[Tensor, ...]
    region: Tensor | None = None

    @property
    def call(self) -> tuple[Tensor | None, ...]:
        return self.pred, *self.others, self.region

    @property
    def target(self) -> Tensor:
        """What the prediction is held against; a loss without a target has something of its shape."""
        return self.others[-1] if self.others else self.pred.detach()

    def leaf(self) -> PairData:
        """The same values as a fresh leaf that asks for a gradient."""
        return PairData(self.pred.detach().clone().requires_grad_(), self.others, self.region)

    def double(self) -> PairData:
        region = self.region if self.region is None or self.region.dtype == torch.bool else self.region.double()
        return PairData(self.pred.detach().double(), tuple(one.double() for one in self.others), region)

    def each(self, change: Any) -> PairData:
        """The data with every tensor changed alike."""
        return PairData(change(self.pred), tuple(map(change, self.others)), None if self.region is None else change(self.region))


def make_pair(
    case: PairCase,
    space: tuple[int, ...] = (6, 9),
    *,
    batch: int = 2,
    channels: int | None = None,
    dtype: torch.dtype = torch.float64,
    region: str | None = "soft",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> PairData:
    """Random data without ties: a third of a target is 0 or 1, and all of the first sample's, so that it counts as binary.

    Regions are None (soft, where the loss can't do without) or of REGIONS: a third 0, a third 1, the others between.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    count = (3 if case.composes else 1) if channels is None else channels
    shape = (batch, count, *space)
    pred = random(batch, 1, *space) if case.composes else random(*shape)
    pred = (pred / (1 - pred)).log() if case.link == "sigmoid" else 0.02 + 0.96 * pred
    target = random(*shape)
    target[random(*shape) < 0.3] = 0
    target[random(*shape) < 0.2] = 1
    target[:1] = target[:1].round()
    others = (random(*shape), random(*shape), target) if case.composes else (target,) if case.has_target else ()
    kind = "soft" if region is None and case.needs_region else region
    where = None
    if kind is not None:
        where = random(*{"channels": shape, "flat": (batch, *space)}.get(kind, (batch, 1, *space)))
        where = (1.5 * where - 0.25).clamp(0, 1) if kind != "bool" else where < 0.6
        where = where if kind == "bool" else where.to(torch.float64 if dtype == torch.float64 else torch.float32)
        where = where.to(device)
    return PairData(pred.to(dtype).to(device), tuple(one.to(dtype).to(device) for one in others), where)


def run(loss: nn.Module, data: PairData) -> Tensor:
    """What there is to differentiate."""
    return value(loss(*data.call))


def evaluate(loss: nn.Module, data: PairData, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient; a result that is not a scalar is contracted with `cotangent` or with ones."""
    data = data.leaf()
    result = run(loss, data)
    seed = torch.ones_like(result) if cotangent is None else cotangent.to(result)
    (gradient,) = torch.autograd.grad(result, data.pred, seed)
    return result.detach(), gradient
