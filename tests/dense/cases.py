"""What the contract suite of the dense fold runs over: every loss that reads targets of the scores' shape, and its data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import CONTAINERS, ENGINES, Case, Data
from tests.cases import PER_CLASS as LABEL_PER_CLASS

PER_CLASS = LABEL_PER_CLASS | {"pos_weight": [3.0, 0.5, 1.0, 2.0, 0.0]}
"""What a sample's "random" stands for."""
TARGETS = ("soft", "hard", "bool", "int")
"""Floats between 0 and 1, floats 0 and 1, booleans, and integers 0, 1 and the ignored value."""


class DenseCase(Case):
    """One registered loss with one of its option sets for dense targets."""

    @property
    def link(self) -> str:
        return str(self.options.get("link", lf.LOSSES[self.name].link))

    def changed(self, **extra: Any) -> DenseCase:
        return DenseCase(self.name, self.options | extra)

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
        return self.hinge if given is None else bool(given)

    @property
    def overlaps(self) -> bool:
        return self.name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss")

    @property
    def maps(self) -> bool:
        """Whether reduction="none" gives a number for each element or pixel."""
        pixelwise = self.name in ("BinaryCrossEntropyLoss", "CrossEntropyLoss", "FocalLoss")
        return pixelwise and self.options.get("reduction") == "none"

    @property
    def reads_labels(self) -> bool:
        """Whether integers ``[B, *S]`` are labels to this loss, for one channel too."""
        return self.link in lf.LOSSES[self.name].label_links


def dense_cases() -> list[DenseCase]:
    """Every loss with each of its dense samples; the first also summed, the first and the last also unreduced."""
    found = []
    for name in lf.LOSSES:
        samples = () if name in CONTAINERS else getattr(lf.LOSSES[name], "dense_samples", ())
        plain = [DenseCase(name, {k: PER_CLASS[k] if v == "random" else v for k, v in options.items()}) for options in samples]
        found += plain
        if plain:
            found += [plain[0].changed(reduction="sum")]
            found += [case.changed(reduction="none") for case in plain[:1] + plain[1:][-1:]]
    return found


def every_dense_case(*, engines: Iterable[str] = ENGINES, among: list[DenseCase] | None = None) -> pytest.MarkDecorator:
    """Parametrize `case` over every dense sample, each forced onto every available engine that it has."""
    params = [
        pytest.param(case.changed(engine=engine), id=f"{engine}-{case.id}")
        for case in among or dense_cases()
        for engine in engines
        if engine in case.engines
    ]
    return pytest.mark.parametrize("case", params)


def samples() -> list[DenseCase]:
    """The samples alone, and a map: enough where the reduction does not matter."""
    return [
        case
        for case in dense_cases()
        if case.options.get("reduction") in (None, "none") and ("reduction" not in case.options or case.maps)
    ]


def one_case_a_loss() -> list[DenseCase]:
    """Each loss with its first sample of each link, and unreduced where that is a map."""
    chosen: dict[Any, DenseCase] = {}
    for case in dense_cases():
        chosen.setdefault((case.name, case.link, case.sorts, case.maps), case)
    return list(chosen.values())


def one_case_a_link() -> list[DenseCase]:
    """Each loss with its first sample of each link: for what does not depend on the options."""
    chosen: dict[Any, DenseCase] = {}
    for case in dense_cases():
        chosen.setdefault((case.name, case.link), case)
    return list(chosen.values())


def dense_scores(raw: Tensor, link: str) -> Tensor:
    """Raw numbers to what a loss of this link reads; probabilities keep from 0 and 1."""
    return 0.95 * torch.sigmoid(raw) + 0.02 if link == "identity" else raw


def make_dense(
    case: DenseCase,
    space: tuple[int, ...] = (3, 4),
    *,
    target: str = "soft",
    batch: int = 2,
    classes: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    ignored: float = 0.15,
    weight: str | None = None,
    spread: float = 2.0,
    seed: int = 0,
) -> Data:
    """Random data; the last channel but one has no target, the last none in image 0, and integers ignore some elements.

    Soft targets are multiples of 1/256 (every dtype holds them). Weights are None, "pixel", "element" or "bool"; where
    the channels belong together "element" falls back to "pixel", and ignoring takes whole pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    count = case.classes if classes is None else classes
    shape = (batch, count, *space)
    raw = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets = (targets * 256).round() / 256 if target == "soft" else (targets < 0.4).double()
    if count > 2:
        targets[:, count - 2] = 0
        targets[:1, count - 1] = 0
    if target == "bool":
        targets = targets.bool()
    elif target == "int":
        away = torch.rand((batch, 1 if case.together else count, *space), generator=generator) < ignored
        targets = torch.where(away, case.ignore_index, targets.long())
    scores = dense_scores(raw, case.link).to(dtype)
    given = make_weight(case, shape, weight, generator, dtype)
    return Data(scores.to(device), targets.to(device), None if given is None else given.to(device))


def make_weight(
    case: DenseCase, shape: tuple[int, ...], weight: str | None, generator: torch.Generator, dtype: torch.dtype
) -> Tensor | None:
    """Weights that a histogram holds exactly: multiples of 2^-24 above 1/4."""
    if weight is None:
        return None
    pixels = (shape[0], *shape[2:])
    if weight == "bool":
        return torch.rand(pixels, generator=generator) < 0.7
    numbers = torch.rand(shape if weight == "element" and not case.together else pixels, generator=generator, dtype=torch.float64)
    numbers = ((0.25 + 1.5 * numbers) * 2**24).round() / 2**24
    return numbers.to(torch.float64 if dtype == torch.float64 else torch.float32)


def rotate(index: int, weights: tuple[str | None, ...] = (None, "pixel", "element", "bool")) -> tuple[str, str | None]:
    """A target and a weight for the n-th case, so that products are thinned and yet all pairs appear."""
    pairs = list(itertools.product(TARGETS, weights))
    return pairs[(5 * index) % len(pairs)]


def element_weights(case: DenseCase, data: Data) -> Tensor:
    """The weight of every element, 0 where it is ignored, ``[B, K, *S]`` in float64."""
    t = data.labels
    whole = not t.is_floating_point() and t.dtype != torch.bool
    counted = (t != case.ignore_index) if whole else torch.ones(t.shape, dtype=torch.bool)
    if case.together:
        counted = counted.all(1, keepdim=True).expand(t.shape)
    if data.weight is None:
        return counted.double()
    w = data.weight.double()
    return torch.where(counted, w if w.dim() == t.dim() else w.unsqueeze(1), 0.0)


def call(loss: Any, data: Data) -> Tensor:
    result = loss(*data.call)
    assert isinstance(result, Tensor)
    return result
