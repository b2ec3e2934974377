"""What losses and sets remember of calls never shows: whatever has changed since is seen."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.memory import MOST
from tests.contract.cases import native
from tests.internals import Watch

LABELS = torch.arange(32).reshape(2, 4, 4) % 3


def scores(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def both() -> lf.LossSet:
    return lf.LossSet(ce=lf.CrossEntropyLoss(), inner=lf.LossSet(dice=lf.DiceLoss()))


def afresh(criterion: lf.LossSet, *given: Tensor) -> Tensor:
    """What a set says that remembers nothing."""
    return copy.deepcopy(criterion)(*given).total.detach()


CHANGES: dict[str, Any] = {
    "an option": lambda criterion: setattr(criterion["ce"], "class_weight", [1.0, 2.0, 3.0]),
    "an option of the inner set's": lambda criterion: setattr(criterion["inner"]["dice"], "smooth", 0.0),
    "a loss's weight": lambda criterion: setattr(criterion["ce"], "loss_weight", 3.0),
    "a set's weight": lambda criterion: setattr(criterion["inner"], "loss_weight", 3.0),
    "a loss": lambda criterion: criterion.members.add("ce", lf.FocalLoss()),
    "a hook": lambda criterion: criterion["ce"].register_forward_hook(lambda loss, given, value: 2 * value),
    "a forward": lambda criterion: setattr(criterion["ce"], "forward", lambda logits, labels: logits.mean()),
    "a term": lambda criterion: criterion.members.add("ce", lf.Term(lf.CrossEntropyLoss(), schedule=lambda step: 0.5)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(change: str) -> None:
    criterion = both()
    before = [criterion(scores(), LABELS).total.item() for _ in range(3)]
    assert len(set(before)) == 1 and criterion.memory.known
    CHANGES[change](criterion)
    changed = criterion(scores(), LABELS).total
    torch.testing.assert_close(changed.detach(), afresh(criterion, scores(), LABELS), rtol=0, atol=0)
    assert changed.item() != before[0]


def test_other_calls_are_others() -> None:
    """Of other shapes, dtypes and devices, with a weight, without a gradient; a wrong one is refused after right ones."""
    criterion, z = both(), scores()
    weight = torch.rand(2, 4, 4)
    calls = [
        (z, LABELS), (z, LABELS, weight), (z, LABELS.int()), (z.double(), LABELS), (z[:1], LABELS[:1]), (z.detach(), LABELS),
        (z, LABELS.repeat_interleave(2, 1).repeat_interleave(2, 2)), (z.half(), LABELS), (z, LABELS, weight.requires_grad_()),
    ]  # fmt: skip
    for _ in range(2):
        for given in calls:
            found = criterion(*given).total
            torch.testing.assert_close(found.detach(), afresh(criterion, *given), rtol=0, atol=0)
            assert found.requires_grad == any(one.requires_grad for one in given)
        with torch.no_grad():
            assert not criterion(*calls[0]).total.requires_grad
        assert criterion(z.to("meta"), LABELS.to("meta")).total.is_meta
    for loss in (criterion, lf.CrossEntropyLoss()):
        for _ in range(2):
            loss(z, LABELS)
        with pytest.raises(lf.LossError, match="labels must be of shape"):
            loss(z, LABELS[:1])
        with pytest.raises(lf.LossError, match=r"also \[7\]"):
            loss(z, LABELS + 7 * (LABELS == 0))


@native
def test_another_engine_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, used = lf.CrossEntropyLoss(), []
    for engine in ("cpp", "eager", "cpp"):
        monkeypatch.setenv("LOSSFOLD_ENGINE", engine)
        with Watch() as watch:
            loss(scores(), LABELS)
        used.append(bool(watch.names))
    assert used == [True, False, True]


def test_classes_of_others_are_asked_each_time() -> None:
    """What they go by may be more than options."""

    class Growing(lf.CrossEntropyLoss):
        def coefficients(self, like: Tensor, kind: str) -> dict[Any, Any]:
            return {key: factor * float(self.growth) for key, factor in super().coefficients(like, kind).items()}

    loss = Growing()
    loss.growth = torch.ones(())
    for criterion in (loss, lf.LossSet(a=loss, b=lf.CrossEntropyLoss(loss_weight=0.0))):
        loss.growth.fill_(1.0)
        found = []
        for _ in range(3):
            result = criterion(scores(), LABELS)
            found.append(float(result.detach()))
            loss.growth.mul_(2)
        assert found[1:] == pytest.approx([2 * found[0], 4 * found[0]])


def test_nothing_goes_along_and_little_is_kept() -> None:
    criterion = both()
    for side in range(2, MOST + 12):
        criterion["ce"](torch.zeros(1, 2, side), torch.zeros(1, side, dtype=torch.int64))
    assert len(criterion["ce"].memory.known) <= MOST
    criterion(scores(), LABELS)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert not other.memory.known and not other["ce"].memory.known
        torch.testing.assert_close(other(scores(), LABELS).total, criterion(scores(), LABELS).total, rtol=0, atol=0)


@pytest.mark.parametrize("make", [lf.CrossEntropyLoss, lf.DiceLoss, both], ids=["once", "fold", "set"])
def test_inference_leaves_nothing_behind(make: Any) -> None:
    """Also where gradients are switched on inside, which changes nothing there."""

    def total(found: Any) -> Tensor:
        return found if isinstance(found, Tensor) else found.total

    loss, leaf = make(), scores()
    with torch.inference_mode(), torch.enable_grad():
        found = total(loss(scores(), LABELS))
    again = total(loss(leaf, LABELS))
    again.backward()
    torch.testing.assert_close(found, again.detach())
    assert leaf.grad is not None


class Gated(lf.LossSet):
    """Leaves the second image out of one term."""

    def gate_for(self, name: str, handed: Any) -> Tensor | None:
        return torch.tensor([True, False]) if name == "dice" else None


def test_what_a_set_is_subclassed_by_is_asked_each_time() -> None:
    criterion, plain = (of(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss()) for of in (Gated, lf.LossSet))
    first = criterion(scores(), LABELS).total
    assert torch.equal(first, criterion(scores(), LABELS).total)
    assert not torch.equal(first, plain(scores(), LABELS).total)


def test_what_was_put_in_place_and_taken_away_is_seen() -> None:
    loss = lf.CrossEntropyLoss()
    before = loss(scores(), LABELS)

    def twice(like: Tensor, kind: str) -> Any:
        return {sum_: 2 * factor for sum_, factor in type(loss).coefficients(loss, like, kind).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "coefficients", twice)
        assert torch.equal(loss(scores(), LABELS), 2 * before)
    assert torch.equal(loss(scores(), LABELS), before)


@native
def test_a_factor_is_not_rounded_to_the_gradients_dtype() -> None:
    leaf = scores().detach().bfloat16().requires_grad_()
    loss = lf.CrossEntropyLoss(engine="cpp")
    (slope,), (third,) = (torch.autograd.grad(loss(leaf, LABELS) * factor, leaf) for factor in (1, 1 / 3))
    assert torch.equal(third, (slope.double() / 3).bfloat16())
