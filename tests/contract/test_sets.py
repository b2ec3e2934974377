"""A set is the sum of its terms, whatever it reads, and pass by pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, Case, Data, close, evaluate, slope_of
from tests.contract.cases import CASES, first_of
from tests.folds.label.cases import ScoreCase

GROUPS = sorted({(case.fold, case.link) for case in CASES if not case.is_set and not case.make().images})


def members(fold: str, link: str, engine: str) -> dict[str, Case]:
    """Every sample of every loss that reads predictions alike, under one ignored label."""
    fit = [c for c in CASES if (c.fold, c.link) == (fold, link) and c.reduction != "none" and engine in c.engines]
    fit = [c for c in fit if not c.is_set and not c.make().images and c.options.get("data_range", 1.0) == 1.0]
    fit = [c for c in fit if not isinstance(c, ScoreCase) or c.classes == 5]
    ignoring = {"ignore_index": -100} if fold in ("label", "dense") else {}
    return {f"{c.name}_{i}": c.changed(engine=engine, **ignoring) for i, c in enumerate(fit)}


def data_of(terms: dict[str, Case], target: str) -> Data:
    """Large enough for every window, of pixel weights where one of the terms wants them."""
    largest = max(terms.values(), key=lambda case: case.spaces[0])
    pixels = next((case for case in terms.values() if getattr(case, "together", False)), largest)
    return (pixels if largest.fold == "dense" else largest).make(
        largest.spaces[0] if largest.fold == "window" else (7, 9), way=(target, largest.rich[1])
    )


def named(data: Data, fold: str, pred: torch.Tensor) -> dict[str, Any]:
    """One dict of outputs, under all names that the losses of a fold have for their arguments."""
    if fold in ("label", "dense", "shape"):
        return {"logits": pred, "labels": data.target, "weight": data.weight}
    return {"pred": pred, "target": data.target, "weight": data.weight, "region": data.weight, "mask": data.weight}


SERVED = [(*group, engine) for group in GROUPS for engine in ENGINES if members(*group, engine)]


@pytest.mark.parametrize(("fold", "link", "engine"), SERVED)
def test_a_set_is_the_sum_of_its_terms(fold: str, link: str, engine: str) -> None:
    terms = members(fold, link, engine)
    assert len({case.name for case in terms.values()}) > 1 or link == "hinge"
    weights = {name: 0.25 + 0.5 * i for i, name in enumerate(terms)}
    criterion = lf.LossSet({name: weights[name] * case.build() for name, case in terms.items()})
    for target in {"dense": ("soft", "int"), "label": ("int64",)}.get(fold, ("",)):
        data = data_of(terms, target)
        leaf = data.leaf()
        out = criterion(named(data, fold, leaf.pred))
        assert isinstance(out, lf.LossOutput)
        assert list(out.terms) == list(out.weighted) == list(terms)
        total, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(data.pred)
        for name, case in terms.items():
            own = weights[name] * case.options.get("loss_weight", 1.0)
            held = data if case.make().target is not None else data.with_target(None)
            raw, gradient = evaluate(case.build(loss_weight=1.0), held)
            close(out.terms[name], raw)
            close(out.weighted[name].detach(), own * raw)
            (term,) = torch.autograd.grad(out.weighted[name], leaf.pred, retain_graph=True)
            close(term, own * gradient, atol=1e-12 * own)
            assert not out.terms[name].requires_grad and out.weighted[name].requires_grad
            total, slope = total + own * raw, slope + own * gradient
        close(out.total.detach(), total)
        close(slope_of(out.total, leaf.pred), slope)


@pytest.mark.parametrize("fold", ["label", "dense"])
@pytest.mark.parametrize("engine", ENGINES)
def test_more_sums_than_a_pass_holds_take_another_pass(fold: str, engine: str) -> None:
    """As many as it holds are one, to the last but one: the weights of two losses that join count twice."""
    case = next(one for one in CASES if one.fold == fold and one.name == "FocalLoss")
    terms = {f"focal{i}": case.build(gamma=1 + i / 100, engine=engine) for i in range(80)}  # each an exponent of its own
    criterion = lf.LossSet(terms)
    passes = [line.rsplit("[", 1)[1].split(",") for line in criterion.plan().splitlines()]
    assert internals.most_sums() == 64
    assert [len(sums) for sums in passes] == {"label": [63, 19], "dense": [63, 63, 37]}[fold]
    data = case.make(dtype=torch.float32)
    out = criterion(*data.call)
    for name, loss in terms.items():
        torch.testing.assert_close(out.terms[name], loss(*data.call))


def test_losses_with_a_plan_of_their_own_fold() -> None:
    """The plan names the fold that `tests.internals` sorts losses by."""
    for case in first_of(lambda case: (case.fold, case.name)):
        loss = case.build()
        plan = loss.plan() if isinstance(loss, lf.LossSet) else lf.LossSet(term=loss).plan()
        assert f"{case.fold} fold" in plan or case.fold == "dense" or case.plain_sums, case.id
