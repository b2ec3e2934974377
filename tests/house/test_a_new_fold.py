"""CONTRIBUTING's third recipe: a fold is a spec, a definition, operators and needs; engines, sets and gates follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold import engines
from lossfold.engines.native import LIBRARY, NAMESPACE
from lossfold.engines.operators import FoldOperators
from lossfold.folds.arithmetic import total
from lossfold.folds.checks import result_dtype
from lossfold.folds.fold import MOST_SUMS, Arguments, Fold, Needs, more_of, texts_of
from lossfold.folds.pair.needs import check_pair
from lossfold.losses.image_loss import ImageLoss
from lossfold.losses.reduce import Ratio
from tests.internals import Watch

# spec.py: what can be asked for.


@dataclass(frozen=True)
class ToySpec:
    sums: tuple[tuple[str, float], ...]


# definition.py: the pass in plain PyTorch; sums [B, K, C].


class definition:  # noqa: N801 - stands for a module
    @staticmethod
    def fold(pred: Tensor, target: Tensor, spec: ToySpec) -> Tensor:
        d = pred - target
        values = {"weight": lambda k: torch.ones_like(d), "wave": lambda k: 1 - (k * d).cos()}
        return torch.stack([total(values[kind](number).flatten(2)) for kind, number in spec.sums], 1)


# operators.py: the same for the dispatcher; here an engine's implementation stands beside it.

KINDS = ("weight", "wave")


def spec_of(kinds: list[int], numbers: list[float]) -> ToySpec:
    return ToySpec(tuple((KINDS[kind], number) for kind, number in zip(kinds, numbers, strict=True)))


def shapes(pred: Tensor, target: Tensor, kinds: list[int], numbers: list[float]) -> Tensor:
    return pred.new_empty((len(pred), len(kinds), pred.shape[1]), dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def operators() -> Iterator[None]:
    made = FoldOperators(
        "toy",
        "Tensor pred, Tensor target",
        "int[] kinds, float[] numbers",
        ("sums",),
        (),
        lambda pred, target, *options: (definition.fold(pred, target, spec_of(*options)),),
        shapes,
    )

    def unfold(grad: Tensor, pred: Tensor, target: Tensor, kinds: list[int], numbers: list[float]) -> Tensor:
        spec, d = spec_of(kinds, numbers), pred - target
        slopes = [k * (k * d).sin() if kind == "wave" else torch.zeros_like(d) for kind, k in spec.sums]
        return sum(g[:, :, None, None].to(d.dtype) * slope for g, slope in zip(grad.unbind(1), slopes, strict=True))

    with torch.library._scoped_library(NAMESPACE, "IMPL") as library:
        library.impl("toy_fold", lambda pred, target, *options: definition.fold(pred, target, spec_of(*options)), "CPU")
        library.impl("toy_unfold", unfold, "CPU")
        served.fold = lambda pred, target, spec: made.fold(  # type: ignore[attr-defined]
            (pred, target), ([KINDS.index(kind) for kind, _ in spec.sums], [number for _, number in spec.sums])
        )
        yield
    assert LIBRARY is not None


class served:  # noqa: N801 - stands for the module operators.py
    fold: Callable[..., Tensor]


# needs.py: what losses ask for, and the pass itself.


@dataclass(frozen=True)
class ToyGiven(Arguments):
    pred: Tensor
    target: Tensor

    def same(self, other: ToyGiven) -> bool:
        return self.pred is other.pred and self.target is other.target

    def having(self, change: Callable[[Tensor], Tensor]) -> ToyGiven:
        return replace(self, pred=change(self.pred))


@dataclass(frozen=True)
class ToyNeeds(Needs[ToySpec]):
    def reads_alike(self, other: ToySpec) -> bool:
        return len(self.spec.sums) + len(other.sums) <= MOST_SUMS

    def joined(self, other: ToySpec) -> ToySpec:
        return ToySpec(more_of(self.spec.sums, other.sums))

    def collect(self, given: ToyGiven) -> Fold:
        run = engines.select(self.engine, given.pred, given.target).among(definition, served)
        return Fold(run.fold(given.pred, given.target, self.spec), self.spec.sums, result_dtype(given.pred), ("weight",))

    def describe(self) -> tuple[str, str, list[str]]:
        return "toy", "link=identity", texts_of(self.spec.sums)


@dataclass(kw_only=True, eq=False, repr=False)
class ToyWaveLoss(ImageLoss):
    """The mean of 1 - cos(k (p - t))."""

    number: float = 1.0
    reduction: str = "mean"
    sample_wise: bool = False
    engine: str | None = None

    def check(self, pred: Any, target: Any) -> ToyGiven:
        return ToyGiven(*check_pair(pred, target))

    def needs(self, given: Any = None) -> ToyNeeds:
        return ToyNeeds(ToySpec((("wave", self.number), ("weight", 0.0))), self.engine)

    def formula(self, fold: Fold, given: Any) -> Ratio:
        return Ratio(fold["wave", self.number], fold["weight", 0.0])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.weigh(self.evaluate(pred, target))


ENGINES = lf.engines.available()


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_sets_gates_and_derivatives_follow(engine: str) -> None:
    pred, target = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True), torch.randn(3, 2, 4, 5, dtype=torch.float64)
    loss = ToyWaveLoss(number=2.0, engine=engine)
    truth = (1 - (2 * (pred - target)).cos()).flatten(1).mean(1)
    torch.testing.assert_close(loss(pred, target), truth.mean())
    assert torch.autograd.gradcheck(loss, (pred, target)) and torch.autograd.gradgradcheck(loss, (pred, target))
    other = ToyWaveLoss(engine=engine, sample_wise=True)
    gated = lf.Term(loss, when="here", when_mean="all")
    criterion = lf.LossSet(a=loss, b=0.5 * other, c=gated)
    here = torch.tensor([True, False, True])
    with Watch() as watch:
        out = criterion(pred, target, here=here)
        out.backward()
    assert watch.names == (["toy_fold", "toy_unfold"] if engine == "cpp" else [])
    assert criterion.plan() == (f"toy fold (link=identity, {engine}): a, b, c (when='here') [wave(2), weight, wave(1)]")
    torch.testing.assert_close(out.terms["c"], (truth * here).sum() / 3)
    torch.testing.assert_close(lf.LossSet(c=lf.Term(loss, when="here"))(pred, target, here=here).total, truth[here].mean())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("engine", ENGINES)
def test_transforms_and_compiled_code_follow(engine: str) -> None:
    pred, target = torch.randn(2, 2, 4, 5), torch.randn(2, 2, 4, 5)
    loss = ToyWaveLoss(engine=engine)
    slope = torch.func.grad(ToyWaveLoss())(pred, target)
    torch.testing.assert_close(slope, (pred - target).sin() / pred.numel())
    x = pred.clone().requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    compiled(x, target).backward()
    torch.testing.assert_close(x.grad, slope)
    if engine != "eager":
        with pytest.raises(lf.LossError, match=r"ToyWaveLoss: engine .* has no rules for torch.func"):
            torch.func.grad(loss)(pred, target)
        options = [0, 1], [0.0, 1.0]
        torch.library.opcheck(getattr(torch.ops, NAMESPACE).toy_fold.default, (x.detach().requires_grad_(), target, *options))
