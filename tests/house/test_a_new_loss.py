"""CONTRIBUTING's first recipe: a loss on sums that exist is one class in one file."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold import losses
from lossfold.config.schema import schema
from lossfold.folds.fold import Fold, Sum
from lossfold.losses.classes.areas import areas, sums_of_areas
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import ScoreLoss
from lossfold.options import configured
from tests.house.missing import missing
from tests.internals import Watch


@configured
class ToyRecallLoss(ScoreLoss):
    """One minus the recall of each class, 1 - (Σ w p t + s) / (Σ w t + s)."""

    smooth: float = 1.0

    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid",)
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid"},)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return sums_of_areas(kind)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return each class's cost, and 1."""
        area = areas(fold)
        return Ratio(1 - (area.both + self.smooth) / (area.true + self.smooth), torch.ones_like(area.true))


@pytest.fixture
def registered() -> Iterator[None]:
    lf.LOSSES.register(ToyRecallLoss)
    yield
    del lf.LOSSES._classes["ToyRecallLoss"]
    lf.LOSSES.entries += 1


def recall(p: Tensor, t: Tensor) -> Tensor:
    p, t = (x.transpose(0, 1).flatten(1).double() for x in (p, t))
    return (1 - ((p * t).sum(1) + 1) / (t.sum(1) + 1)).mean()


@pytest.mark.parametrize("engine", lf.engines.available())
def test_it_is_everything_that_a_loss_is(registered: None, engine: str) -> None:
    logits, labels = torch.randn(2, 4, 6, 7, requires_grad=True), torch.randint(0, 4, (2, 6, 7))
    one_hot = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    truth = recall(logits.softmax(1), one_hot)
    loss = ToyRecallLoss(engine=engine)
    for made in (
        loss,
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        lf.build({"type": "ToyRecallLoss", "engine": engine}),
    ):
        torch.testing.assert_close(made(logits, labels), truth.float())
    torch.testing.assert_close(lf.functional.toy_recall_loss(logits, labels, engine=engine), truth.float())
    torch.testing.assert_close(
        ToyRecallLoss(link="sigmoid", engine=engine)(logits, one_hot), recall(logits.sigmoid(), one_hot).float()
    )
    assert repr(loss) == f"ToyRecallLoss(engine={engine!r})" and "options of ToyRecallLoss" in schema()["$defs"]
    with Watch() as watch:
        out = lf.LossSet(ce=lf.CrossEntropyLoss(engine=engine), toy=0.5 * loss)(logits, labels)
        out.backward()
    assert watch.names == (["label_fold", "label_unfold"] if engine == "cpp" else [])
    torch.testing.assert_close(out.terms["toy"], truth.float())
    with pytest.raises(lf.LossError, match=r"ToyRecallLoss: labels must be of shape"):
        loss(logits, labels[:, :3, :3][:1])


def test_what_it_lacks_is_named(registered: None) -> None:
    assert missing(["ToyRecallLoss"]) == [
        "ToyRecallLoss: export it in src/lossfold/__init__.py",
        "ToyRecallLoss: run `make stubs`",
        "ToyRecallLoss: give it a row in the README or in docs/",
        "ToyRecallLoss: say what it is, with an example, in its docstring",
    ]


def test_no_loss_lacks_anything() -> None:
    for module in pkgutil.walk_packages(losses.__path__, "lossfold.losses."):  # also those that nobody exports
        importlib.import_module(module.name)
    assert missing(lf.LOSSES) == []


def test_functions_follow_the_registry() -> None:
    """Also a class that takes anything, one that is entered anew, and names that are no functions' names."""
    pred, target = torch.rand(2, 3), torch.rand(2, 3)

    class Open(torch.nn.Module):
        def __init__(self, alpha: float = 1.0) -> None:
            super().__init__()
            self.alpha = alpha

        def forward(self, pred: Tensor, target: Tensor, **others: Any) -> Tensor:
            return self.alpha * (pred - target).abs().mean()

    try:
        for name in ("ToyOpen", "Match", "weird.name"):
            lf.LOSSES.register_module(name, module=Open)
        names = lf.functional.__all__
        assert len(names) == len(set(names)) and "toy_open" in names and "weird.name" not in names
        assert all(getattr(lf.functional, name).__name__ for name in names) and lf.functional.match.__name__ == "match"
        assert lf.functional.toy_open(pred, target, alpha=2.0) == 2 * (pred - target).abs().mean()
        lf.LOSSES.register_module("ToyOpen", force=True, module=lambda pred, target: 0 * pred)
        assert lf.functional.toy_open(pred, target) == 0
    finally:
        for name in ("ToyOpen", "Match", "weird.name"):
            del lf.LOSSES._classes[name]
        lf.LOSSES.entries += 1


def test_who_forgets_the_decorator_is_told() -> None:
    class Forgotten(ScoreLoss):
        smooth: float = 1.0

    hint = r"Forgotten: smooth must be an option of this loss, got 2\.0 \(write @configured"
    with pytest.raises(lf.LossError, match=hint):
        Forgotten(smooth=2.0)  # type: ignore[call-arg]
    with pytest.raises(lf.LossError, match=hint.replace("Forgotten", "Heir")):
        type("Heir", (Forgotten,), {"__module__": __name__})(smooth=2.0)
