"""What every property of the contract is stated over: one loss with one of its option sets, and one call's arguments.

`tests.folds` says for each fold how its losses are given data, what their oracle and their plain PyTorch are, and where general
rules stop; `tests.contract.cases` lists the cases of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import Self

import lossfold as lf

ENGINES: tuple[str, ...] = tuple(lf.engines.available())
Way = tuple[str, str | None]
"""A kind of target and a kind of weight, as `make` takes them."""
Space = tuple[int, ...]
INTERPOLATED = {4: "bilinear", 5: "trilinear"}
"""How PyTorch calls what is done to scores of so many dimensions."""


@dataclass
class Data:
    """One call's arguments: what is differentiated, what it is held against, and how much each pixel counts."""

    pred: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    images: tuple[Tensor, ...] = ()
    """What stands between the prediction and the target: a composition's foreground and background."""

    @property
    def call(self) -> tuple[Tensor | None, ...]:
        held = () if self.target is None else (self.target,)
        return self.pred, *self.images, *held, self.weight

    @property
    def tensors(self) -> list[Tensor]:
        return [one for one in self.call if one is not None]

    @property
    def truth(self) -> Tensor:
        """The target of a loss that has one."""
        assert self.target is not None
        return self.target

    def leaf(self) -> Data:
        """The same values as a fresh leaf that asks for a gradient."""
        return self.with_pred(self.pred.detach().clone().requires_grad_())

    def with_pred(self, pred: Tensor) -> Data:
        return Data(pred, self.target, self.weight, self.images)

    def with_target(self, target: Tensor | None) -> Data:
        return Data(self.pred, target, self.weight, self.images)

    def with_weight(self, weight: Tensor | None) -> Data:
        return Data(self.pred, self.target, weight, self.images)

    def each(self, change: Callable[[Tensor], Tensor]) -> Data:
        """The data with every tensor changed alike."""
        target, weight = (None if one is None else change(one) for one in (self.target, self.weight))
        return Data(change(self.pred), target, weight, tuple(map(change, self.images)))

    def double(self) -> Data:
        """The same numbers in float64; labels and masks as they are."""
        return self.each(lambda one: one.detach().double() if one.is_floating_point() else one)


@dataclass(frozen=True)
class Case:
    """One registered loss with one of its option sets."""

    name: str
    options: dict[str, Any] = field(hash=False)

    fold: ClassVar[str] = ""
    ways: ClassVar[tuple[Way, ...]] = (("", None),)
    """Kinds of targets and weights, of which every pair occurs."""
    spaces: ClassVar[tuple[Space, ...]] = ()
    """One of each rank, as small as an oracle wants them."""
    wide_spaces: ClassVar[tuple[Space, ...]] = ()
    """With lines that are no multiple of a vector, and several blocks."""
    counts: ClassVar[tuple[int | None, ...]] = (None,)
    """Of channels, where the options don't say it."""
    rich: ClassVar[Way] = ("", "soft")
    """The way with most to go wrong: floating targets and weights where there are any."""
    hollow: ClassVar[tuple[tuple[int, Space], ...]] = ()
    """Batches and spaces without pixels."""
    threaded: ClassVar[Space] = (71, 61)
    """Of which threads of a compiled engine share the work."""
    large: ClassVar[tuple[tuple[Space, int], ...]] = ()
    """Spaces and channels of several blocks, walked one by one or together."""

    @property
    def id(self) -> str:
        given = ",".join(f"{key}={self.options[key]}" for key in sorted(self.options))
        return f"{self.name}({given})".replace(" ", "")

    def build(self, **extra: Any) -> nn.Module:
        loss = lf.LOSSES[self.name](**(self.options | extra))
        assert isinstance(loss, nn.Module)
        return loss

    def changed(self, **extra: Any) -> Self:
        return type(self)(self.name, self.options | extra)

    @property
    def reduction(self) -> str:
        return str(self.options.get("reduction", "mean"))

    @property
    def is_set(self) -> bool:
        return issubclass(lf.LOSSES[self.name], lf.LossSet)

    @property
    def passes(self) -> str:
        """What its passes collect, as the plan of a set tells; a map is told by its mean."""
        loss = self.build(reduction="mean") if self.reduction == "none" else self.build()
        told = loss.plan() if isinstance(loss, lf.LossSet) else lf.LossSet(term=loss).plan()
        return str(told)

    # Where the general rules stop, and why: a fold's own case says it.

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that serve it; none but "eager" can be forced on what is plain PyTorch's."""
        return ENGINES

    @property
    def link(self) -> str:
        return str(self.options.get("link", "identity"))

    @property
    def any_channels(self) -> bool:
        """Whether the options fit any number of channels."""
        return True

    @property
    def elsewhere(self) -> bool:
        """Whether its plain call takes tensors that are not the CPU's."""
        return self.name != "SkeletonRecallLoss"

    @property
    def maps(self) -> bool:
        """Whether the result is a number for each pixel."""
        return False

    @property
    def linear(self) -> bool:
        """Whether one pass finds value and gradient: a mean or a sum over pixels, whatever the scores."""
        one_pass = ("CrossEntropyLoss", "FocalLoss", "BinaryCrossEntropyLoss", "AsymmetricFocalLoss")
        named = self.name in one_pass and not self.maps
        return named and not self.options.get("per_image") and self.options.get("normalize") != "focal"

    @property
    def tables(self) -> bool:
        """Whether the result has a row for each image."""
        return self.maps

    @property
    def pixelwise(self) -> bool:
        """Whether it is made of sums over pixels, each of which has its own summands."""
        return True

    @property
    def plain_sums(self) -> bool:
        """Whether something of it is added up in plain PyTorch beside the passes."""
        return self.name in ("ExpLogLoss", "GeneralizedWassersteinDiceLoss")

    @property
    def steep(self) -> bool:
        """Whether it raises each pixel's loss to a power below 1, whose slope magnifies what the loss was rounded by: there an
        engine has to be no worse than plain PyTorch, which no engine is right to the last digits for."""
        return self.name == "ExpLogLoss"

    @property
    def counts_pixels(self) -> bool:
        """Whether the number of pixels matters beside their weights, so that a weight of 2 is no second pixel."""
        return False

    @property
    def weights_are_regions(self) -> bool:
        """Whether the weight says where, in [0, 1], and not how much."""
        return False

    @property
    def needs_weight(self) -> bool:
        return False

    @property
    def adds_up(self) -> bool:
        """Whether folds of parts of a batch make the fold of the whole."""
        return True

    @property
    def differentiates_weights(self) -> bool:
        return True

    @property
    def differentiates_targets(self) -> bool:
        return True

    @property
    def grain(self) -> float:
        """How far a value may be off because it is added up in integers."""
        return 0.0

    def slope_grain(self, data: Data, cotangent: Tensor, *, saturated: bool = False) -> float:
        """How far a gradient may be off, whatever plain PyTorch's is."""
        return 0.0

    @property
    def truth_rounding(self) -> float:
        """How far plain PyTorch in float64 is itself off, relatively, where that is more than rounding."""
        return 0.0

    @property
    def slope_tolerance(self) -> float:
        return 1e-10

    @property
    def unit(self) -> float:
        """What values round in units of, however small they are."""
        return 0.0

    @property
    def curved(self) -> bool | None:
        """Whether a first derivative has a graph; None where that depends on the data."""
        return True

    @property
    def step(self) -> float:
        """For finite differences."""
        return 1e-6

    @property
    def blanks(self) -> bool:
        """Whether there is a weight of which nothing counts."""
        return True

    @property
    def scales_with_area(self) -> bool:
        """Whether the number of pixels is a factor of its own."""
        return self.options.get("reference_area") is not None

    @property
    def empty_share(self) -> float:
        """What a mean over two samples is of the one's own, where nothing of the other counts."""
        return 1.0

    # Data and truths.

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
        """Random data, of which some pixels do not count; without a `way` the plainest target and no weight."""
        raise NotImplementedError

    def small(self) -> Self:
        """The case, changed to what takes less time for the same derivatives."""
        return self

    def tiny(self, way: Way, spread: float) -> Data:
        """A few pixels that no finite difference takes over a step of the gradient."""
        raise NotImplementedError

    def settled(self, data: Data, *, roundings: float = 8.0, distance: float | None = None) -> Data:
        """The data without the pixels that are near a step of the gradient."""
        return data

    def blank(self, data: Data) -> Data:
        """The data with a weight of which nothing counts."""
        assert data.weight is not None
        return data.with_weight(torch.zeros_like(data.weight))

    def full(self, data: Data) -> Data:
        """The data with a weight of which everything counts."""
        assert data.weight is not None
        return data.with_weight(torch.ones_like(data.weight))

    def empties(self, dtype: torch.dtype) -> list[Data]:
        """Ways in which nothing counts."""
        return [self.blank(self.make(dtype=dtype, way=way)) for way in self.ways if way[1] is not None]

    def apart(self) -> Self:
        """The same mean, of samples that have means of their own."""
        return self.changed(reduction="mean", sample_wise=True)

    def requests(self) -> Data:
        """Data whose every tensor may ask for a gradient and does, away from where that is not continuous."""
        raise NotImplementedError

    def plain(self, data: Data) -> Tensor:
        """The loss as one writes it in PyTorch, in the dtype of the prediction."""
        raise NotImplementedError

    def oracle(self, data: Data, pred: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The loss in float64 NumPy, of another prediction than the data's."""
        raise NotImplementedError

    @property
    def complex_oracle(self) -> bool:
        """Whether the oracle takes complex predictions, and so has derivatives to rounding."""
        return False


def value(result: Any) -> Tensor:
    """The tensor to differentiate: the total of a set or of a loss with parts, or the loss itself."""
    total = getattr(result, "total", result)
    assert isinstance(total, Tensor)
    return total


def run(loss: Callable[..., Any], data: Data) -> Tensor:
    """What there is to differentiate."""
    return value(loss(*data.call))


def evaluate(loss: Callable[..., Any], data: Data, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient; a result that is not a scalar is contracted with `cotangent` or with ones."""
    leaf = data.leaf()
    result = run(loss, leaf)
    return result.detach(), slope_of(result, leaf.pred, cotangent)


def slope_of(result: Tensor, leaf: Tensor, cotangent: Tensor | None = None) -> Tensor:
    seed = torch.ones_like(result) if cotangent is None else cotangent.to(result)
    (gradient,) = torch.autograd.grad(result, leaf, seed)
    return gradient


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-10, atol: float = 1e-12, grain: float = 0.0) -> None:
    """Equal to rounding; `grain` is a case's, for its value."""
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol + grain)


def same_bits(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def both_close(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], *, grain: float = 0.0) -> None:
    """Values and gradients equal to rounding."""
    close(found[0], truth[0], grain=grain)
    close(found[1], truth[1])


def both_same(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor]) -> None:
    """Values and gradients equal to the bit."""
    for actual, expected in zip(found, truth, strict=True):
        same_bits(actual, expected)


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """A loss is float32, or float64 of float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def random_cotangent(shape: torch.Size | Space, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape)))
