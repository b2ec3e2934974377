"""The losses of shapes: of whole masks, of labels under softmax and of targets of their shape under sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lossfold as lf
from tests import internals
from tests.contract.case import Case, Data, Space, Way
from tests.folds.label.cases import PER_CLASS
from tests.folds.shape import oracles, plain


class ShapeCase(Case):
    fold = "shape"
    spaces = ((6,), (3, 4), (3, 2, 3))
    wide_spaces = ((61,), (9, 11), (5, 4, 5))
    hollow = ((0, (3, 4)), (2, (0, 4)), (0, (5,)))

    @property
    def link(self) -> str:
        return str(self.options.get("link", "softmax"))

    @property
    def labels(self) -> bool:
        """Whether it is given classes: under softmax."""
        return self.link == "softmax"

    @property
    def together(self) -> bool:
        """Whether a weight is of a pixel, as labels are."""
        return self.labels

    @property
    def ways(self) -> tuple[Way, ...]:  # type: ignore[override]
        if self.labels:
            return (("int64", None), ("int32", "pixel"), ("int64", "bool"), ("int64", "pixel"))
        return (("soft", None), ("int", "pixel"), ("bool", "element"), ("soft", "bool"))

    @property
    def rich(self) -> Way:  # type: ignore[override]
        return ("int64", "pixel") if self.labels else ("soft", "element")

    @property
    def engines(self) -> tuple[str, ...]:
        return ("eager",)

    @property
    def by_image(self) -> bool:
        return bool(self.options.get("per_image"))

    def apart(self) -> ShapeCase:
        return self.changed(reduction="mean", per_image=True)

    @property
    def any_channels(self) -> bool:
        return "class_weight" not in self.options

    @property
    def tables(self) -> bool:
        return self.by_image and self.reduction == "none"

    @property
    def pixelwise(self) -> bool:
        return False

    @property
    def adds_up(self) -> bool:
        return not self.by_image

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def differentiates_targets(self) -> bool:
        return not self.labels

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
        """Scores of which no two of a channel are the same, in any dtype; a class is absent, and pixels are ignored."""
        kind, weight = way or (self.rich[0], None)
        kind = kind or self.rich[0]
        generator = torch.Generator().manual_seed(seed)
        space, count = (3, 4) if space is None else space, 5 if channels is None else channels
        shape = (batch, count, *space)
        pixels = int(np.prod(space))
        scores = apart(shape, generator) * spread + 0.03
        scores = 0.5 + 0.22 * scores if self.link == "identity" else scores
        if self.labels:
            target = torch.randint(0, count, (batch, *space), generator=generator)
            target[target == count - 2] = 0
            target[torch.rand(target.shape, generator=generator) < ignored] = -100
            target = target.to(getattr(torch, kind))
        else:
            target = torch.rand(shape, generator=generator, dtype=torch.float64)
            target = (target * 256).round() / 256 if kind == "soft" else (target < 0.5).double()
            target[:, count - 2] = 0
            if kind == "int":
                target = torch.where(torch.rand(shape, generator=generator) < ignored, -100, target.long())
            target = target.bool() if kind == "bool" else target
        given = None
        if weight == "bool":
            given = torch.rand((batch, *space), generator=generator) < 0.7
        elif weight is not None:
            given = 0.25 + 1.5 * torch.rand(
                shape if weight == "element" else (batch, *space), generator=generator, dtype=torch.float64
            )
            given = given.to(torch.float64 if dtype == torch.float64 else torch.float32)
            given = given if pixels < 2 else torch.where(torch.rand(given.shape, generator=generator) < 0.1, 0.0, given)
        return Data(scores.to(dtype).to(device), target.to(device), None if given is None else given.to(device))

    def tiny(self, way: Way, spread: float) -> Data:
        return self.make((2, 3), batch=1, way=way, spread=spread).leaf()

    def requests(self) -> Data:
        """Targets keep from each other, and from where a mask begins."""
        data = self.make((2, 3), way=self.rich).leaf()
        assert data.weight is not None
        data = data.with_weight((data.weight + 0.1).requires_grad_())
        if self.labels:
            return data
        target = 0.47 + 0.4 * apart(tuple(data.pred.shape), torch.Generator().manual_seed(5))
        return data.with_target(target.requires_grad_())

    def plain(self, data: Data) -> Tensor:
        return plain.evaluate(self.name, data, self.options, self.labels)

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return oracles.evaluate(self.name, data.with_pred(torch.from_numpy(pred)), self.options, self.labels)


def apart(shape: Space, generator: torch.Generator) -> Tensor:
    """Numbers from -1 to 1, those of each channel evenly spaced, in any order."""
    pixels = int(np.prod(shape[2:]))
    line = torch.linspace(-1, 1, pixels, dtype=torch.float64)
    rows = [line[torch.randperm(pixels, generator=generator)] for _ in range(shape[0] * shape[1])]
    return torch.stack(rows).view(shape) if rows else torch.zeros(shape, dtype=torch.float64)


def shape_cases() -> list[ShapeCase]:
    """Every loss with each of its samples; the last also unreduced, and the options' rows have the sums."""
    found = []
    for name in internals.folded("shape"):
        samples = lf.LOSSES[name].samples
        plainly = [ShapeCase(name, {k: PER_CLASS[k] if v == "random" else v for k, v in one.items()}) for one in samples]
        found += [*plainly, plainly[-1].changed(reduction="none")]
    return found
