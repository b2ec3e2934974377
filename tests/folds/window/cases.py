"""The losses that compare two images through a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Case, Data, Space, Way
from tests.folds.window import oracles, plain

WEIGHTS = ("soft", "bool", "channels", "flat")
"""Floats [B, 1, H, W], booleans [B, 1, H, W], floats [B, C, H, W], floats [B, H, W]."""


class WindowCase(Case):
    fold = "window"
    ways = tuple(("", weight) for weight in (None, *WEIGHTS))
    wide_spaces = ((71, 53), (61, 68))
    counts = (1, 3)
    threaded = (290, 61)  # tiles of 128 by 512 places

    @property
    def side(self) -> int:
        """The smallest side that the loss takes."""
        scales = len(self.options.get("betas", oracles.BETAS)) if self.name == "MSSSIMLoss" else 1
        size, padding = int(self.options.get("window_size", 11)), self.options.get("padding", self.usual_padding)
        smallest = {"valid": size, "reflect": size // 2 + 1, "zeros": 1}[padding]
        return smallest * 2 ** (scales - 1)

    @property
    def usual_padding(self) -> str:
        return "zeros" if self.name == "L1SSIMLoss" else "valid"

    @property
    def linear(self) -> bool:
        """Whether one pass finds value and gradient."""
        plain = self.reduction != "none" and not self.sample_wise and self.link == "identity"
        return self.name != "MSSSIMLoss" and plain and self.options.get("padding", self.usual_padding) != "reflect"

    @property
    def hollow(self) -> tuple[tuple[int, Space], ...]:  # type: ignore[override]
        return ((0, self.spaces[0]),)

    @property
    def spaces(self) -> tuple[Space, ...]:  # type: ignore[override]
        return ((self.side + 3, self.side + 6),)

    @property
    def maps(self) -> bool:
        """A number for each place of the window."""
        return self.name == "SSIMLoss" and self.reduction == "none"

    @property
    def tables(self) -> bool:
        return self.reduction == "none"

    @property
    def pixelwise(self) -> bool:
        return False

    @property
    def engines(self) -> tuple[str, ...]:
        """Maps are PyTorch's own."""
        return ("eager",) if self.maps else ENGINES

    @property
    def sample_wise(self) -> bool:
        return bool(self.options.get("sample_wise"))

    @property
    def adds_up(self) -> bool:
        return self.name != "MSSSIMLoss" and self.reduction != "none" and not self.sample_wise

    @property
    def empty_share(self) -> float:
        return 0.5 if self.sample_wise else 1.0

    @property
    def data_range(self) -> float:
        return float(self.options.get("data_range", 1.0))

    @property
    def slope_tolerance(self) -> float:
        return 1e-9

    @property
    def truth_rounding(self) -> float:
        """In float64 the truth's own variances are differences of squares: they round by eps, and count in units of c2."""
        return 2 * torch.finfo(torch.float64).eps / float(self.options.get("k2", 0.03)) ** 2

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
        """Two random images that are alike enough for a positive contrast at every scale, of the case's range.

        Weights are None or of WEIGHTS: a third 0, the others up to 1.25.
        """
        _, weight = way or ("", None)
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        shape = batch, 2 if channels is None else channels, *(self.spaces[0] if space is None else space)
        target = random(*shape)
        pred = 0.7 * target + 0.3 * random(*shape)
        if self.name == "L1SSIMLoss":  # whose slope has a step where they are equal: no rounding takes a pixel over it
            pred = torch.where((pred - target).abs() < 0.02, target + torch.where(target < 0.5, 0.02, -0.02), pred)
        where = None
        if weight is not None:
            where = random(*{"channels": shape, "flat": (batch, *shape[2:])}.get(weight, (batch, 1, *shape[2:])))
            where = where > 0.4 if weight == "bool" else (1.875 * where - 0.625).clamp(min=0)
            where = where if weight == "bool" else where.to(torch.float64 if dtype == torch.float64 else torch.float32)
            where = where.to(device)
        pred = (0.02 + 0.96 * pred).logit() if self.link == "sigmoid" else self.data_range * pred
        return Data(*(image.to(dtype).to(device) for image in (pred, self.data_range * target)), where)

    def small(self) -> WindowCase:
        """The case with a window of five, for what takes a time that grows with the square of the pixels."""
        return self.changed(window_size=5, sigma=1.0)

    def tiny(self, way: Way, spread: float) -> Data:
        return self.make((self.side + 2, self.side + 1), channels=1, way=way).leaf()

    def requests(self) -> Data:
        """Where a weight is 0 is no smooth thing."""
        data = self.tiny(("", None), 1.0)
        weight = 0.25 + torch.rand(data.pred.shape, dtype=torch.float64)
        return Data(data.pred, data.truth.clone().requires_grad_(), weight.requires_grad_())

    def plain(self, data: Data) -> Tensor:
        return plain.evaluate(self.name, data, self.options)

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.array(oracles.evaluate(self.name, data.with_pred(torch.from_numpy(pred)), self.options))


def window_cases() -> list[WindowCase]:
    """Every loss with each of its samples; the first also summed, unreduced and by samples."""
    found = []
    for name in internals.folded("window"):
        plainly = [WindowCase(name, dict(options)) for options in lf.LOSSES[name].samples]
        first = plainly[0]
        found += [*plainly, first.changed(reduction="sum"), first.changed(reduction="none"), first.changed(sample_wise=True)]
    return found
