"""Formulas on CPUs: from some calls alike on replayed without a graph, to the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.engines import native
from lossfold.folds import formulas, traces
from lossfold.losses.fused import REPEATED

pytestmark = pytest.mark.skipif(bool(native.PROBLEM), reason="the C++ engine is not here")
SETS = {
    "weights": lambda **engine: lf.LossSet(
        ce=lf.CrossEntropyLoss(**engine), dice=0.5 * lf.DiceLoss(class_weight=[1, 2, 3, 4], **engine), focal=lf.FocalLoss(**engine)
    ),
    "images": lambda **engine: lf.LossSet(
        tversky=lf.TverskyLoss(exponent=0.75, per_image=True, **engine),
        jaccard=lf.JaccardLoss(average="micro", log=True, **engine),
        ohem=lf.OhemCrossEntropyLoss(min_kept=3, **engine),
    ),
    "one": lambda **engine: lf.GeneralizedDiceLoss(**engine),
}


def evaluate(loss: Any, *given: Tensor) -> list[Tensor]:
    """Return every value and the gradient."""
    leaf = given[0].clone().requires_grad_()
    out = loss(leaf, *given[1:])
    values = [out] if isinstance(out, Tensor) else [out.total, *out.terms.values(), *out.weighted.values()]
    return [*[one.detach() for one in values], *torch.autograd.grad(values[0], leaf)]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The programs that are written from here on."""
    known: dict[Any, Any] = {}
    monkeypatch.setattr(formulas, "KNOWN", known)
    return known


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_same_bits_at_every_call(name: str, kind: torch.dtype, programs: dict[Any, Any]) -> None:
    loss, given = SETS[name](), (torch.randn(2, 4, 5, 6, dtype=kind), torch.randint(4, (2, 5, 6)), torch.rand(2, 5, 6))
    first = evaluate(loss, *given)
    for turn in range(2, REPEATED + 3):  # of a set's first call nothing is known before its end
        for one, other in zip(evaluate(loss, *given), first, strict=True):
            assert torch.equal(one, other)
        assert turn >= REPEATED or not programs
    assert len(programs) == 1 and None not in programs.values()
    given = given[0] - given[0].flip(0), *given[1:]
    for one, other in zip(evaluate(loss, *given), evaluate(SETS[name](), *given), strict=True):
        assert torch.equal(one, other)


def test_what_the_total_alone_does_not_say(programs: dict[Any, Any]) -> None:
    """Terms by themselves, an option that changes, second derivatives, no gradient at all."""
    sets = SETS["weights"](), SETS["weights"](engine="eager")
    scores, labels = torch.randn(2, 4, 4, 5), torch.randint(4, (2, 4, 5))
    for turn in range(REPEATED + 1):
        found = []
        for one in sets:
            leaf = scores.clone().requires_grad_()
            for further in (True, False):
                out = one(leaf, labels)
                found += torch.autograd.grad(2 * out.total + out.weighted["dice"], leaf, create_graph=further)
            (slope,) = torch.autograd.grad(one(leaf, labels).total, leaf, create_graph=True)
            found += torch.autograd.grad(slope.square().sum(), leaf)
            with torch.no_grad():
                found.append(one(scores, labels).total)
            if turn == REPEATED - 1:
                one["dice"].class_weight = [3, 1, 1, 0]
        half = len(found) // 2
        for one, other in zip(found[:half], found[half:], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert len(programs) > 1 and None not in programs.values()


def test_what_can_not_be_written_runs_as_it_is(programs: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise traces.UnwrittenError("this")

    monkeypatch.setattr(formulas, "written", refuse)
    loss, given = SETS["weights"](), (torch.randn(2, 4, 5, 6), torch.randint(4, (2, 5, 6)))
    calls = [evaluate(loss, *given) for _ in range(REPEATED + 2)]
    assert list(programs.values()) == [None]
    assert all(torch.equal(one, other) for one, other in zip(calls[0], calls[-1], strict=True))
