"""CONTRIBUTING's second recipe: a sum is an entry of the definition's table; an engine that does not know it refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.folds.dense import definition as dense
from lossfold.folds.dense import spec as dense_spec
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.label import definition as label
from lossfold.folds.label import spec as label_spec
from lossfold.folds.pair import spec as pair_spec
from lossfold.losses.pairs import Mean, PairLoss
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import ScoreLoss

ENTROPY: Sum = ("toy_entropy", 0.0)


@dataclass(kw_only=True, eq=False, repr=False)
class ToyEntropyLoss(ScoreLoss):
    """The mean entropy of the predicted classes."""

    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid",)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        return (ENTROPY, ("weight", 0.0))

    def formula(self, fold: Fold, given: Any) -> Ratio:
        weight = fold["weight", 0.0]
        return Ratio(fold[ENTROPY], weight if fold.target == "labels" else weight[:, :1])


@pytest.fixture
def defined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(label.SHARES, "toy_entropy", lambda x, number: -x.w * x.p * x.log_p)
    monkeypatch.setitem(dense.SHARES, "toy_entropy", lambda x, number: x.w * (x.p * x.nll + (1 - x.p) * x.nll_not))


def test_the_definition_serves_it(defined: None) -> None:
    logits, labels = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 3, (2, 5, 4))
    p = logits.softmax(1)
    truth = -(p * p.log()).sum(1).mean()
    loss = ToyEntropyLoss(engine="eager")
    torch.testing.assert_close(loss(logits, labels), truth)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits,))
    out = lf.LossSet(ce=lf.CrossEntropyLoss(engine="eager"), toy=loss)(logits, labels)
    torch.testing.assert_close(out.terms["toy"], truth.detach())
    torch.testing.assert_close(out.terms["ce"], torch.nn.functional.cross_entropy(logits, labels).detach())
    masks, p = (torch.rand(2, 3, 5, 4) > 0.5), logits.sigmoid()
    truth = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(ToyEntropyLoss(link="sigmoid", engine="eager")(logits, masks), truth)


class ToyPairLoss(PairLoss):
    """A pair loss of a sum that nobody has."""

    def means(self) -> tuple[Mean, ...]:
        return (Mean(1, ((1, ("toy_curve", 0.0)),)),)


@pytest.mark.parametrize("engine", lf.engines.available())
def test_engines_refuse_what_they_do_not_know(engine: str) -> None:
    logits, labels = torch.randn(2, 3, 5, 4, requires_grad=True), torch.randint(0, 3, (2, 5, 4))
    masks, images = (torch.rand(2, 3, 5, 4) > 0.5), torch.rand(2, 3, 5, 4)
    calls: list[tuple[lf.LossSet | Any, Tensor]] = [
        (ToyEntropyLoss(engine=engine), labels),
        (ToyEntropyLoss(link="sigmoid", engine=engine), masks),
        (ToyPairLoss(engine=engine), images),
    ]
    for loss, target in calls:
        with pytest.raises(lf.LossError, match=rf"{type(loss).__name__}: sums must be of kinds that .* knows: .*, got 'toy_"):
            loss(logits, target)


def test_a_definition_has_every_kind() -> None:
    assert tuple(label.SHARES) == label_spec.KINDS and tuple(dense.SHARES) == dense_spec.KINDS + dense_spec.PLAIN
    assert len(set(pair_spec.KINDS)) == len(pair_spec.KINDS)
