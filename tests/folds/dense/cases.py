"""The losses of dense targets: a number between 0 and 1 for each channel of each pixel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests import internals
from tests.contract.case import INTERPOLATED, Data, Space, Way
from tests.folds.dense import oracles, plain, steps
from tests.folds.label.cases import PER_CLASS as LABEL_PER_CLASS
from tests.folds.label.cases import ScoreCase

PER_CLASS = LABEL_PER_CLASS | {"pos_weight": [3.0, 0.5, 1.0, 2.0, 0.0]}
"""What a sample's "random" stands for."""
TARGETS = ("soft", "hard", "bool", "int")
"""Floats between 0 and 1, floats 0 and 1, booleans, and integers 0, 1 and the ignored value."""
WEIGHTS = (None, "pixel", "element", "bool")


class DenseCase(ScoreCase):
    fold = "dense"
    ways = tuple(list(itertools.product(TARGETS, WEIGHTS))[(5 * i) % 16] for i in range(16))
    spaces = ((5,), (2, 3), (2, 1, 3), ())
    wide_spaces = ((1031,), (37, 29), (7, 11, 13))
    rich = ("soft", "element")
    hollow = ((0, (3, 4)), (2, (0, 4)), (2, (3, 0)), (0, (5,)), (0, ()))
    large = (((96, 97), 19), ((64, 64), 70))

    def empties(self, dtype: torch.dtype) -> list[Data]:
        """Also where all targets are ignored."""
        data = self.make(dtype=dtype, way=("int", None))
        ignored = data.with_target(torch.full_like(data.truth, self.ignore_index))
        return [ignored, *(self.blank(self.make(dtype=dtype, way=("soft", weight))) for weight in WEIGHTS[1:])]

    def requests(self) -> Data:
        """Targets keep from 0 and 1, beyond which they leave their range."""
        data = self.settled(self.make((3,), way=self.rich), distance=1e-4)
        data = self.settled(data.with_target(0.05 + 0.9 * data.truth), distance=1e-4).leaf()
        assert data.weight is not None
        return data.with_target(data.truth.clone().requires_grad_()).with_weight((data.weight + 0.1).requires_grad_())

    @property
    def link(self) -> str:
        return str(self.options.get("link", lf.LOSSES[self.name].link))

    @property
    def hinge(self) -> bool:
        return self.link == "hinge"

    @property
    def together(self) -> bool:
        """Whether the channels of a pixel make one value, so that weights and ignoring belong to pixels."""
        return self.link == "softmax" or self.name == "CrossEntropyLoss"

    @property
    def grain(self) -> float:
        """As for labels; the width of a hinge bin is up to 16/bins of 1 + error, and errors of the tests stay below 15."""
        return super().grain * (256.0 if self.hinge else 1.0)

    @property
    def by_image(self) -> bool:
        given = self.options.get("per_image")
        return (self.hinge or self.name == "StructureLoss") if given is None else bool(given)

    @property
    def overlaps(self) -> bool:
        return self.name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss", "AsymmetricFocalTverskyLoss")

    @property
    def reads_labels(self) -> bool:
        """Whether integers ``[B, *S]`` are labels to this loss, for one channel too."""
        return self.link in lf.LOSSES[self.name].label_links

    @property
    def differentiates_targets(self) -> bool:
        return self.differentiates_weights

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
        """Random data; the last channel but one has no target, the last none in image 0, and integers ignore some elements.

        Soft targets are multiples of 1/256 (every dtype holds them). Weights are None, "pixel", "element" or "bool"; where
        the channels belong together "element" falls back to "pixel", and ignoring takes whole pixels.
        """
        target, weight = way or ("soft", None)
        generator = torch.Generator().manual_seed(seed)
        count = self.classes if channels is None else channels
        shape = (batch, count, *((3, 4) if space is None else space))
        raw = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        targets = torch.rand(shape, generator=generator, dtype=torch.float64)
        targets = (targets * 256).round() / 256 if target == "soft" else (targets < 0.4).double()
        if count > 2:
            targets[:, count - 2] = 0
            targets[:1, count - 1] = 0
        if target == "bool":
            targets = targets.bool()
        elif target == "int":
            away = torch.rand((batch, 1 if self.together else count, *shape[2:]), generator=generator) < ignored
            targets = torch.where(away, self.ignore_index, targets.long())
        scores = (0.95 * torch.sigmoid(raw) + 0.02 if self.link == "identity" else raw).to(dtype)
        given = make_weight(self, shape, weight, generator, dtype)
        return Data(scores.to(device), targets.to(device), None if given is None else given.to(device))

    def tiny(self, way: Way, spread: float) -> Data:
        data = self.settled(self.make((4,), way=way, spread=spread), distance=2 * self.step)
        assert data.weight is None or (data.weight != 0).sum() >= 3
        return data.leaf()

    def settled(self, data: Data, *, roundings: float = 8.0, distance: float | None = None) -> Data:
        if data.pred.shape == data.truth.shape:
            return steps.settled(self, data, roundings=roundings, distance=distance)
        roundings += max(data.pred.shape[2:])  # interpolation rounds coordinates too
        large = steps.settled(self, data.with_pred(self.resized(data)), roundings=roundings, distance=distance)
        return data.with_weight(large.weight)

    def resized(self, data: Data) -> Tensor:
        """The scores at the targets' resolution."""
        if data.pred.shape == data.truth.shape:
            return data.pred
        corners = bool(self.options.get("align_corners"))
        mode = INTERPOLATED[data.pred.ndim]
        return functional.interpolate(data.pred, tuple(data.truth.shape[2:]), mode=mode, align_corners=corners)

    def plain(self, data: Data) -> Tensor:
        return plain.evaluate(self, data.with_pred(self.resized(data)))

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        weight = None if data.weight is None else data.weight.numpy()
        return np.array(oracles.evaluate(self.name, pred, data.truth.numpy(), weight, **self.options))


def make_weight(case: DenseCase, shape: Space, weight: str | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor | None:
    """Weights that a histogram holds exactly: multiples of 2^-24 above 1/4."""
    if weight is None:
        return None
    pixels = (shape[0], *shape[2:])
    if weight == "bool":
        return torch.rand(pixels, generator=generator) < 0.7
    numbers = torch.rand(shape if weight == "element" and not case.together else pixels, generator=generator, dtype=torch.float64)
    numbers = ((0.25 + 1.5 * numbers) * 2**24).round() / 2**24
    return numbers.to(torch.float64 if dtype == torch.float64 else torch.float32)


def dense_cases() -> list[DenseCase]:
    """Every loss with each of its dense samples; the first also summed, the first and the last also unreduced."""
    found = []
    for name in internals.folded("dense"):
        samples = lf.LOSSES[name].dense_samples
        plainly = [DenseCase(name, {k: PER_CLASS[k] if v == "random" else v for k, v in one.items()}) for one in samples]
        found += [*plainly, plainly[0].changed(reduction="sum")]
        found += [case.changed(reduction="none") for case in plainly[:1] + plainly[1:][-1:]]
    return found
