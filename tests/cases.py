"""What the contract suite runs over: every registered loss with each of its samples, and the data it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.compose.matting import MattingSet
from lossfold.losses.base import Loss
from lossfold.losses.folded import Folded
from lossfold.losses.images.ssim import WindowLoss
from lossfold.losses.pairs import PairLoss

ENGINES: tuple[str, ...] = tuple(lf.engines.available())
CONTAINERS = {"LossSet"}
"""Registered names that hold other losses and have no samples of their own."""
PAIR_LOSSES = [name for name in lf.LOSSES if issubclass(lf.LOSSES[name], (PairLoss, MattingSet))]
"""Registered names that hold a prediction against a target of the same kind: `tests.pair` has them."""
FOLDLESS = [name for name in lf.LOSSES if issubclass(lf.LOSSES[name], Loss) and not issubclass(lf.LOSSES[name], Folded)]
ADVERSARIAL = ("gan", "penalties", "path_length", "components")
ADVERSARIAL_LOSSES = [name for name in FOLDLESS if lf.LOSSES[name].__module__.rpartition(".")[2] in ADVERSARIAL]
"""Registered names that take outputs of a discriminator, or a network, and components: `tests.adversarial` has them."""
FEATURE_LOSSES = [name for name in FOLDLESS if name not in ADVERSARIAL_LOSSES]
"""Registered names that fold nothing, because they compare features: `tests.features` has them."""
WINDOW_LOSSES = [name for name in lf.LOSSES if issubclass(lf.LOSSES[name], WindowLoss)]
"""Registered names that compare two images through a window: `tests.window` has them."""
SCORE_LOSSES = [name for name in lf.LOSSES if name not in {*CONTAINERS, *PAIR_LOSSES, *FOLDLESS, *WINDOW_LOSSES}]
"""Registered names that hold scores against labels or against targets of the scores' shape."""
LABEL_LOSSES = [name for name in SCORE_LOSSES if lf.LOSSES[name].samples]
"""Those of them that read integer labels; `tests.dense` has those that read targets of the scores' shape."""


def value(result: Any) -> Tensor:
    """The tensor to differentiate: a set's total, or the loss itself."""
    total = result.total if isinstance(result, lf.LossOutput) else result
    assert isinstance(total, Tensor)
    return total


@dataclass(frozen=True)
class Case:
    """One registered loss with one of its option sets."""

    name: str
    options: dict[str, Any] = field(hash=False)

    @property
    def id(self) -> str:
        given = ",".join(f"{key}={self.options[key]}" for key in sorted(self.options))
        return f"{self.name}({given})".replace(" ", "")

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
    def ignore_index(self) -> int:
        return int(self.options.get("ignore_index", -100))

    def build(self, **extra: Any) -> nn.Module:
        loss = lf.LOSSES[self.name](**(self.options | extra))
        assert isinstance(loss, nn.Module)
        return loss

    def changed(self, **extra: Any) -> Case:
        return Case(self.name, self.options | extra)

    # Where the general rules of the contract stop, and why.

    @property
    def sorts(self) -> bool:
        """`exact=True` sorts in plain PyTorch: it makes no fold, and no other engine than "eager" can be forced on it."""
        return bool(self.options.get("exact"))

    @property
    def engines(self) -> tuple[str, ...]:
        return ("eager",) if self.sorts else ENGINES

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
        share = {"mean": 1.0, "sum": 2 * sum(v), "none": max(v)}[self.options.get("reduction", "mean")]  # sum: over two images
        return 2.0**-23 / self.bins * share * abs(self.options.get("loss_weight", 1.0))

    @property
    def counts_pixels(self) -> bool:
        """The k hardest pixels are k whatever their weights: a pixel of weight 2 is one of them, the pixel twice is two."""
        kept = self.options.get("min_kept", 100_000) > 0 or self.options.get("top_k_ratio") is not None
        return self.name == "OhemCrossEntropyLoss" and kept

    @property
    def adds_up(self) -> bool:
        """Whether folds of parts make the fold of the whole: not where the hardest pixels of each part are chosen."""
        return not self.sorts and not self.counts_pixels and not issubclass(lf.LOSSES[self.name], lf.LossSet)

    @property
    def linear(self) -> bool:
        """Between the places where errors change order the Lovász extension is linear in them: no second derivative."""
        return self.name == "LovaszLoss" and self.link == "identity"

    @property
    def differentiates_weights(self) -> bool:
        """The Jaccard index of weighted errors has weights in its counts, which are integers: refused, not done wrongly."""
        return self.name != "LovaszLoss"


PER_CLASS = {"class_weight": [0.5, 2.0, 1.0, 0.25, 1.5], "alpha": [0.2, 0.6, 0.4, 0.9, 0.1]}
"""What a sample's "random" stands for."""


def cases() -> list[Case]:
    """Every loss of labels with each of its samples; some also with the other reductions."""
    found = []
    for name in LABEL_LOSSES:
        samples = lf.LOSSES[name].samples
        plain = [Case(name, {k: PER_CLASS[k] if v == "random" else v for k, v in options.items()}) for options in samples]
        found += plain
        if plain:
            found.append(plain[0].changed(reduction="sum"))
        if not issubclass(lf.LOSSES[name], lf.LossSet):  # a set refuses "none"
            found += [case.changed(reduction="none") for case in plain[:1] + plain[1:][-1:]]
    return found


def one_case_a_loss() -> list[Case]:
    """Each loss with its first sample, and as a map or table where it has one."""
    chosen: dict[tuple[str, bool], Case] = {}
    for case in cases():
        chosen.setdefault((case.name, case.options.get("reduction") == "none"), case)
    return list(chosen.values())


def one_case_a_fold() -> list[Case]:
    """One case for each combination of sums, histogram, mining and map that is asked of an engine, sets apart."""
    chosen: dict[Any, Case] = {}
    for case in cases():
        loss = case.build()
        if not isinstance(loss, lf.LossSet):
            chosen.setdefault((loss.needs().spec, case.sorts, case.options.get("reduction") == "none"), case)
    return list(chosen.values())


def every_case(*, engines: Iterable[str] = ENGINES, among: list[Case] | None = None) -> pytest.MarkDecorator:
    """Parametrize `case` over every registered loss and sample, each forced onto every available engine that it has."""
    params = [
        pytest.param(case.changed(engine=engine), id=f"{engine}-{case.id}")
        for case in among or cases()
        for engine in engines
        if engine in case.engines
    ]
    return pytest.mark.parametrize("case", params)


@dataclass
class Data:
    """One call's arguments."""

    scores: Tensor
    labels: Tensor
    weight: Tensor | None = None

    def leaf(self) -> Data:
        """The same values as a fresh leaf that asks for a gradient."""
        return Data(self.scores.detach().clone().requires_grad_(), self.labels, self.weight)

    def to(self, dtype: torch.dtype, label_dtype: torch.dtype | None = None) -> Data:
        labels = self.labels if label_dtype is None else self.labels.to(label_dtype)
        return Data(self.scores.detach().to(dtype), labels, self.weight)

    @property
    def call(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.scores, self.labels, self.weight


def as_scores(raw: Tensor, link: str) -> Tensor:
    """Raw numbers to what a loss of this link reads: themselves, or scores between 0 and 1.

    Scores keep from 0, where 1/p leaves float16, and from 1, where a power of 1 - p has no slope; they need not sum to 1.
    """
    return 0.95 * torch.softmax(raw, 1) + 0.02 if link == "identity" else raw


def make(
    case: Case,
    space: tuple[int, ...] = (3, 4),
    *,
    batch: int = 2,
    classes: int | None = None,
    dtype: torch.dtype = torch.float64,
    label_dtype: torch.dtype = torch.int64,
    device: torch.device | str = "cpu",
    ignored: float = 0.15,
    weight: str | None = None,
    spread: float = 2.0,
    seed: int = 0,
) -> Data:
    """Random data with ignored pixels; the last class but one is absent, the last is absent from image 0."""
    generator = torch.Generator().manual_seed(seed)
    count = case.classes if classes is None else classes
    raw = spread * torch.randn(batch, count, *space, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, count, (batch, *space), generator=generator)
    if count > 2:
        labels[labels == count - 2] = 0
        labels[:1][labels[:1] == count - 1] = 1
    if ignored:
        labels[torch.rand(labels.shape, generator=generator) < ignored] = case.ignore_index
    given = None
    if weight == "float":
        given = 0.25 + 1.5 * torch.rand(labels.shape, generator=generator, dtype=torch.float64)
        given = (given * 2**24).round() / 2**24  # what a histogram resolves, and yet more than float32 does above 1
        given = given.to(torch.float64 if dtype == torch.float64 else torch.float32)
    elif weight == "bool":
        given = torch.rand(labels.shape, generator=generator) < 0.7
    scores = as_scores(raw, case.link).to(dtype)
    moved = None if given is None else given.to(device)
    return Data(scores.to(device), labels.to(label_dtype).to(device), moved)


def evaluate(loss: nn.Module, data: Data, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient; a result that is not a scalar is contracted with `cotangent` or with ones."""
    data = data.leaf()
    result = value(loss(*data.call))
    seed = torch.ones_like(result) if cotangent is None else cotangent.to(result)
    (gradient,) = torch.autograd.grad(result, data.scores, seed)
    return result.detach(), gradient


def is_map(result: Tensor, labels: Tensor) -> bool:
    """Whether a result is one number a pixel."""
    return result.ndim > 0 and result.shape == labels.shape


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-10, atol: float = 1e-12, grain: float = 0.0) -> None:
    """Equal to rounding; `grain` is a case's, for its value."""
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol + grain)


def same_bits(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
