"""The losses of a pair: a prediction and a target of its kind, inside a region."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Case, Data, Space, Way
from tests.folds.pair import oracles, plain

REGIONS = ("soft", "bool", "channels", "flat")
"""Floats [B, 1, *S], booleans [B, 1, *S], floats [B, C, *S], floats [B, *S]."""


class PairCase(Case):
    fold = "pair"
    ways = tuple(("", region) for region in (None, *REGIONS))
    wide_spaces = ((71, 53), (37, 101))
    counts = (1, 3, 2)
    threaded = (290, 480)  # bands of 65536 pixels
    large = (((96, 1097), 3), ((200, 64), 7))

    @property
    def link(self) -> str:
        return str(self.options.get("link", self.options.get("alpha_link", "identity")))

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(lf.LOSSES[self.name].forward).parameters.items())[1:])

    @property
    def composes(self) -> bool:
        return "pred_alpha" in self.arguments

    @property
    def has_target(self) -> bool:
        return "target" in self.arguments or self.composes

    @property
    def region_argument(self) -> str:
        return next(name for name in ("weight", "region", "mask") if name in self.arguments)

    @property
    def needs_weight(self) -> bool:
        return self.arguments[self.region_argument].default is inspect.Parameter.empty

    @property
    def weights_are_regions(self) -> bool:
        return self.region_argument == "region"

    @property
    def outside(self) -> bool:
        """Whether what counts is where the region is 0."""
        return self.name.startswith("Known")

    @property
    def images_only(self) -> bool:
        """Whether a filter takes it to two dimensions."""
        return self.is_set or internals.wants_images(lf.LOSSES[self.name])

    @property
    def spaces(self) -> tuple[Space, ...]:  # type: ignore[override]
        return ((6, 9),) if self.images_only else ((11,), (6, 9), (2, 3, 4))

    @property
    def pixelwise(self) -> bool:
        """No filter reaches to a pixel's neighbours."""
        return not self.images_only

    @property
    def hollow(self) -> tuple[tuple[int, Space], ...]:  # type: ignore[override]
        images: tuple[tuple[int, Space], ...] = ((0, (8, 8)), (2, (0, 8)), (2, (8, 0)), (0, (0, 0)))
        return (*images, (0, (5,)), (3, (0,)), (0, ())) if self.pixelwise else images

    @property
    def blanks(self) -> bool:
        """The terms of a criterion count the unknown and the known."""
        return not self.is_set

    @property
    def one_way(self) -> bool:
        """Whether a mirrored image is another: steps weigh where they begin, and a pyramid keeps every other column."""
        return "TV" in self.name or self.name == "LaplacianPyramidLoss"

    @property
    def sample_wise(self) -> bool:
        return bool(self.options.get("sample_wise"))

    @property
    def adds_up(self) -> bool:
        """Not where samples have values of their own."""
        return not self.sample_wise and self.name != "PSNRLoss" and not self.is_set and not self.maps

    @property
    def curved(self) -> None:
        """Absolute values have none."""
        return None

    @property
    def maps(self) -> bool:
        return self.reduction == "none" and internals.has_map(lf.LOSSES[self.name])

    @property
    def tables(self) -> bool:
        return self.reduction == "none"

    @property
    def engines(self) -> tuple[str, ...]:
        """Maps are PyTorch's own."""
        return ("eager",) if self.maps else ENGINES

    @property
    def empty_share(self) -> float:
        """A sample in which nothing counts is left out of a mean over the batch, and 0 in a mean over samples."""
        return 0.5 if self.sample_wise else 1.0

    def make(
        self,
        space: Space | None = None,
        *,
        batch: int = 2,
        channels: int | None = None,
        dtype: torch.dtype = torch.float64,
        way: Way | None = None,
        seed: int = 0,
        ignored: float = 0.15,
        spread: float = 2.0,
        device: torch.device | str = "cpu",
    ) -> Data:
        """Random data without ties: a third of a target is 0 or 1, and all of the first sample's, so that it counts as binary.

        Regions are None (soft, where the loss can't do without) or of REGIONS: a third 0, a third 1, the others between.
        """
        _, region = way or ("", "soft")
        space = (6, 9) if space is None else space
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        count = (3 if self.composes else 1) if channels is None else channels
        shape = (batch, count, *space)
        pred = random(batch, 1, *space) if self.composes else random(*shape)
        pred = (pred / (1 - pred)).log() if self.link == "sigmoid" else 0.02 + 0.96 * pred
        target = random(*shape)
        target[random(*shape) < 0.3] = 0
        target[random(*shape) < 0.2] = 1
        target[:1] = target[:1].round()
        images = (random(*shape), random(*shape)) if self.composes else ()
        kind = "soft" if region is None and self.needs_weight else region
        where = None
        if kind is not None:
            where = random(*{"channels": shape, "flat": (batch, *space)}.get(kind, (batch, 1, *space)))
            where = (1.5 * where - 0.25).clamp(0, 1) if kind != "bool" else where < 0.6
            where = where if kind == "bool" else where.to(torch.float64 if dtype == torch.float64 else torch.float32)
            where = where.to(device)
        held = target.to(dtype).to(device) if self.has_target else None
        return Data(pred.to(dtype).to(device), held, where, tuple(one.to(dtype).to(device) for one in images))

    def tiny(self, way: Way, spread: float) -> Data:
        """Random numbers: no difference, response or coefficient is as near to 0 as a step of finite differences."""
        space = (9, 8) if self.images_only else (5,)
        return self.make(space, way=way, channels=2 if self.pixelwise else 1).leaf()

    def blank(self, data: Data) -> Data:
        """Where nothing is unknown; for a loss of what is known, where everything is."""
        assert data.weight is not None
        return data.with_weight(torch.ones_like(data.weight) if self.outside else torch.zeros_like(data.weight))

    def full(self, data: Data) -> Data:
        assert data.weight is not None
        return data.with_weight(torch.zeros_like(data.weight) if self.outside else torch.ones_like(data.weight))

    def requests(self) -> Data:
        """The region keeps from 0 and 1: where it is 0 is no smooth thing, and beyond 1 it is refused."""
        data = self.tiny(("", "soft"), 1.0)
        assert data.weight is not None
        target, *images = (None if one is None else (0.05 + 0.9 * one).requires_grad_() for one in (data.target, *data.images))
        if self.outside:
            return Data(data.pred, target, data.weight)
        region = 0.05 + 0.9 * torch.rand(data.weight.shape, dtype=torch.float64)
        return Data(data.pred, target, region.requires_grad_(), tuple(one for one in images if one is not None))

    def plain(self, data: Data) -> Tensor:
        return plain.evaluate(self.name, data, self.options)

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.array(oracles.evaluate(self.name, data.with_pred(torch.from_numpy(pred)), self.options))


def pair_cases() -> list[PairCase]:
    """Every loss with each of its samples; the first also summed, unreduced and by samples."""
    found = []
    for name in internals.folded("pair"):
        plainly = [PairCase(name, dict(options)) for options in lf.LOSSES[name].samples]
        found += plainly
        if not plainly[0].is_set:
            first = plainly[0]
            found += [first.changed(reduction="sum"), first.changed(reduction="none"), first.changed(sample_wise=True)]
    return found
