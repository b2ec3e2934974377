"""The losses of labels: integer classes for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Case, Data, Space, Way
from tests.folds.label import oracles, plain, steps
from tests.folds.label.rounding import rounding_of_p
from tests.shapes import maps as shapes

PER_CLASS = {"class_weight": [0.5, 2.0, 1.0, 0.25, 1.5], "alpha": [0.2, 0.6, 0.4, 0.9, 0.1]}
PER_CLASS["distances"] = [[float(i != j) * (1 + (3 * i + 5 * j) % 7) for j in range(5)] for i in range(5)]  # type: ignore[misc]
"""What a sample's "random" stands for."""


class ScoreCase(Case):
    """What losses of labels and of dense targets have in common: scores of classes or channels."""

    @property
    def link(self) -> str:
        return str(self.options.get("link", "softmax"))

    @property
    def per_class(self) -> dict[str, list[float]]:
        """The options that list a number for each class (`classes` lists some of them)."""
        return {k: list(v) for k, v in self.options.items() if isinstance(v, list | tuple) and k != "classes"}

    @property
    def classes(self) -> int:
        """As many as the options list values for, or five."""
        lengths = {len(v) for v in self.per_class.values()}
        assert len(lengths) <= 1, f"{self.id}: lists of different lengths"
        return lengths.pop() if lengths else 5

    @property
    def any_channels(self) -> bool:
        return not self.per_class and isinstance(self.options.get("classes", ""), str)

    def of_one_class(self) -> Self:
        """The case with the options of its first class alone."""
        whole = {"classes": [0], "include_background": True}
        listed = {name: value for name, value in whole.items() if name in self.options}
        return self.changed(**{k: v[:1] for k, v in self.per_class.items()}, **listed)

    @property
    def ignore_index(self) -> int:
        return int(self.options.get("ignore_index", -100))

    def apart(self) -> Self:
        return self.changed(reduction="mean", per_image=True)

    @property
    def background_apart(self) -> bool:
        """Whether class 0 is treated otherwise than the others."""
        apart = ("AsymmetricFocalLoss", "AsymmetricFocalTverskyLoss", "UnifiedFocalLoss", "GeneralizedWassersteinDiceLoss")
        return self.name in apart or not self.options.get("include_background", True)

    @property
    def by_image(self) -> bool:
        return bool(self.options.get("per_image"))

    @property
    def maps(self) -> bool:
        pixelwise = ("BinaryCrossEntropyLoss", "CrossEntropyLoss", "FocalLoss", "OhemCrossEntropyLoss")
        return self.name in (*pixelwise, "AsymmetricFocalLoss", "PolyLoss") and self.reduction == "none"

    @property
    def tables(self) -> bool:
        return self.maps or (self.by_image and self.reduction == "none")

    @property
    def pixelwise(self) -> bool:
        """A pixel of a shape has a part in what its neighbours weigh."""
        return self.name not in (*shapes.MAPS, "StructureLoss")

    @property
    def sorts(self) -> bool:
        """Lovász sorts the few errors of the tests in plain PyTorch, unless told not to: nothing of an engine's."""
        return self.name == "LovaszLoss" and self.options.get("exact") is not False

    @property
    def engines(self) -> tuple[str, ...]:
        soft = self.fold == "dense" and self.name == "FocalLoss" and self.link == "softmax"  # a sum of plain PyTorch alone
        return ("eager",) if soft or self.options.get("exact") else ENGINES

    @property
    def bins(self) -> int:
        """Of the histogram that the value is computed from; 0 for all other losses."""
        return int(self.options.get("bins", 4096)) if self.name == "LovaszLoss" and not self.sorts else 0

    @property
    def grain(self) -> float:
        """How far rounding to 2^-24 of a bin may take a value of this loss.

        A histogram holds weights and positions in the bins as integers of 2^-24 (`make` gives weights that are such
        integers, so that only positions round: by 2^-25 a pixel). What the pixels' errors count adds up to at most 1 with
        their weights, of which the tests' least is 1/4: the value of a class moves by 4 · 2^-25 of a bin. Gradients come from
        counts and do not round.
        """
        if not self.bins:
            return 0.0
        v = [abs(x) for x in self.per_class.get("class_weight", [1.0] * self.classes)]
        share = {"mean": 1.0, "sum": 2 * sum(v), "none": max(v)}[self.reduction]  # sum: over two images
        return 2.0**-23 / self.bins * share * abs(self.options.get("loss_weight", 1.0))

    @property
    def step(self) -> float:
        """A histogram's value has steps of 2^-24 of a bin: go a sixteenth of one, a million times as far."""
        return 1 / 16 / self.bins if self.bins else 1e-6

    @property
    def counts_pixels(self) -> bool:
        """The k hardest pixels are k whatever their weights: a pixel of weight 2 is one of them, the pixel twice is two."""
        kept = self.options.get("min_kept", 100_000) > 0 or self.options.get("top_k_ratio") is not None
        return self.name == "OhemCrossEntropyLoss" and kept

    @property
    def adds_up(self) -> bool:
        """Not where the hardest pixels of each part are chosen."""
        folds = self.name != "GeneralizedWassersteinDiceLoss"  # which sums a map up
        return folds and not self.sorts and not self.counts_pixels and not self.is_set

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def curved(self) -> bool:
        """Between the places where errors change order the Lovász extension is linear in them."""
        return not (self.name in ("LovaszLoss", *shapes.MAPS) and self.link == "identity")

    @property
    def differentiates_weights(self) -> bool:
        """The Jaccard index of weighted errors has weights in its counts, which are integers: refused, not done wrongly."""
        return self.name != "LovaszLoss"

    @property
    def complex_oracle(self) -> bool:
        return True


class LabelCase(ScoreCase):
    fold = "label"
    ways = (
        ("int64", None),
        ("int32", "float"),
        ("uint8", "bool"),
        ("int64", "float"),
        ("int32", "bool"),
        ("uint8", None),
        ("int64", "bool"),
        ("int32", None),
        ("uint8", "float"),
    )
    spaces = ((7,), (3, 3), (2, 2, 2))
    wide_spaces = ((1031,), (37, 29), (7, 11, 13))
    rich = ("int64", "float")
    hollow = ((0, (3, 4)), (2, (0, 4)), (2, (3, 0)), (0, (5,)), (2, (0,)))
    threaded = (211, 107)
    large = (((96, 97), 19), ((64, 64), 70))

    def empties(self, dtype: torch.dtype) -> list[Data]:
        """Also where all labels are ignored."""
        data = self.make(dtype=dtype)
        ignored = data.with_target(torch.full_like(data.truth, self.ignore_index))
        return [ignored, *(self.blank(self.make(dtype=dtype, way=("int64", weight))) for weight in ("float", "bool"))]

    def requests(self) -> Data:
        data = self.make((3,), way=self.rich).leaf()
        assert data.weight is not None
        return data.with_weight(data.weight.requires_grad_())

    @property
    def differentiates_targets(self) -> bool:
        """Labels are integers."""
        return False

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
        """Random data with ignored pixels; the last class but one is absent, the last is absent from image 0."""
        kind, weight = way or self.ways[0]
        space = (3, 4) if space is None else space
        generator = torch.Generator().manual_seed(seed)
        count = self.classes if channels is None else channels
        raw = spread * torch.randn(batch, count, *space, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, count, (batch, *space), generator=generator)
        if count > 2:
            labels[labels == count - 2] = 0
            labels[:1][labels[:1] == count - 1] = 1
        if ignored:
            labels[torch.rand(labels.shape, generator=generator) < ignored] = self.ignore_index
        given = None
        if weight == "float":
            given = 0.25 + 1.5 * torch.rand(labels.shape, generator=generator, dtype=torch.float64)
            given = (given * 2**24).round() / 2**24  # what a histogram resolves, and yet more than float32 does above 1
            given = given.to(torch.float64 if dtype == torch.float64 else torch.float32)
        elif weight == "bool":
            given = torch.rand(labels.shape, generator=generator) < 0.7
        if kind == "uint8" and ignored and self.ignore_index < 0:
            kind = "int32"  # holds what is ignored
        scores = as_scores(raw, self.link).to(dtype)
        return Data(scores.to(device), labels.to(getattr(torch, kind)).to(device), None if given is None else given.to(device))

    def tiny(self, way: Way, spread: float) -> Data:
        data = self.settled(self.make((4,), way=way, spread=spread), distance=self.step)
        assert (data.truth != self.ignore_index).sum() >= 3
        return data.leaf()

    def settled(self, data: Data, *, roundings: float = 8.0, distance: float | None = None) -> Data:
        return steps.settled(self, data, roundings=roundings, distance=distance)

    def slope_grain(self, data: Data, cotangent: Tensor, *, saturated: bool = False) -> float:
        return rounding_of_p(self, data, cotangent, saturated=saturated)

    def plain(self, data: Data) -> Tensor:
        return plain.evaluate(self.name, data.pred, data.truth, data.weight, self.options)

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        weight = None if data.weight is None else data.weight.numpy()
        return np.array(oracles.evaluate(self.name, pred, data.truth.numpy(), weight, **self.options))


def as_scores(raw: Tensor, link: str) -> Tensor:
    """Raw numbers to what a loss of this link reads: themselves, or scores between 0 and 1.

    Scores keep from 0, where 1/p leaves float16, and from 1, where a power of 1 - p has no slope; they need not sum to 1.
    """
    return 0.95 * torch.softmax(raw, 1) + 0.02 if link == "identity" else raw


def label_cases() -> list[LabelCase]:
    """Every loss of labels with each of its samples; some also with the other reductions."""
    found = []
    for name in internals.folded("label"):
        samples = lf.LOSSES[name].samples
        plainly = [LabelCase(name, {k: PER_CLASS[k] if v == "random" else v for k, v in one.items()}) for one in samples]
        found += [*plainly, plainly[0].changed(reduction="sum")]
        if not plainly[0].is_set:  # a set refuses "none"
            found += [case.changed(reduction="none") for case in plainly[:1] + plainly[1:][-1:]]
    return found
