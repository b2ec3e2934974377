"""A set of dense losses is the sum of its terms at the price of one fold, and dense folds add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.cases import ENGINES, Data, close, evaluate, same_bits
from tests.dense.cases import DenseCase, dense_cases, make_dense
from tests.operators import Watch

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
LINKS = ["softmax", "sigmoid", "identity", "hinge"]


def members(link: str, engine: str) -> dict[str, DenseCase]:
    """Every sample of five channels that reads `link`."""
    fit = [c for c in dense_cases() if c.link == link and c.options.get("reduction") != "none" and engine in c.engines]
    return {f"{c.name}_{i}": c.changed(engine=engine) for i, c in enumerate(fit)}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("target", ["soft", "int"])
def test_a_set_is_the_sum_of_its_terms(link: str, engine: str, target: str) -> None:
    terms = members(link, engine)
    weights = {name: 0.25 + 0.5 * i for i, name in enumerate(terms)}
    criterion = lf.LossSet({name: weights[name] * case.build() for name, case in terms.items()})
    pixel = any(case.together for case in terms.values())
    data = make_dense(
        DenseCase("CrossEntropyLoss" if pixel else "DiceLoss", {"link": link}), (7, 9), target=target, weight="element"
    ).leaf()
    out = criterion(*data.call)
    assert list(out.terms) == list(out.weighted) == list(terms)
    total, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(data.scores)
    for name, case in terms.items():
        raw, gradient = evaluate(case.build(), data)
        close(out.terms[name], raw)
        close(out.weighted[name].detach(), weights[name] * raw)
        total, slope = total + weights[name] * raw, slope + weights[name] * gradient
    close(out.total.detach(), total)
    out.backward()
    assert data.scores.grad is not None
    close(data.scores.grad, slope)


SETS: dict[str, Any] = {
    "masks": {
        "bce": lf.BinaryCrossEntropyLoss(pos_weight=2.0, label_smoothing=0.1),
        "dice": lf.DiceLoss(link="sigmoid", per_image=True),
        "focal": lf.FocalLoss(link="sigmoid", alpha=0.25),
        "lovasz": lf.LovaszLoss(link="hinge"),
    },
    "soft labels": {"ce": lf.CrossEntropyLoss(label_smoothing=0.1), "dice": lf.DiceLoss(), "jaccard": lf.JaccardLoss(squared=True)},
    "probabilities": {"bce": lf.BinaryCrossEntropyLoss(link="identity"), "dice": lf.DiceLoss(link="identity")},
}


@native
@pytest.mark.parametrize("target", ["soft", "bool"])
@pytest.mark.parametrize("name", SETS)
def test_a_set_costs_one_fold_and_one_unfold(name: str, target: str) -> None:
    terms = SETS[name]
    link = {"masks": "sigmoid", "soft labels": "softmax", "probabilities": "identity"}[name]
    data = make_dense(DenseCase("DiceLoss", {"link": link}), (7, 9), target=target, weight="pixel")
    criterion = lf.LossSet(terms)
    with Watch() as watch:
        result, gradient = evaluate(criterion, data)
    assert watch.names == ["dense_fold", "dense_unfold"]
    alone = [evaluate(loss, data) for loss in terms.values()]
    close(result, torch.stack([value for value, _ in alone]).sum())
    close(gradient, torch.stack([slope for _, slope in alone]).sum(0))


def test_the_plan_names_the_dense_fold() -> None:
    plan = lf.LossSet(SETS["masks"]).plan()
    assert plan.count("dense fold") == 1 and all(name in plan for name in SETS["masks"]) and "sigmoid" in plan
    mixed = lf.LossSet(ce=lf.CrossEntropyLoss(), bce=lf.BinaryCrossEntropyLoss()).plan()
    assert mixed.count("label fold") == 1 and mixed.count("dense fold") == 1


def test_labels_and_masks_in_one_set() -> None:
    """Each term takes its own targets from one dict."""
    scores, labels = torch.randn(2, 4, 6, 5, dtype=torch.float64), torch.randint(0, 4, (2, 6, 5))
    mask_scores, masks = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.rand(2, 3, 6, 5) < 0.4
    criterion = lf.LossSet(
        ce=lf.CrossEntropyLoss(inputs={"logits": "seg", "labels": "labels"}),
        dice=lf.DiceLoss(link="sigmoid", inputs={"logits": "mask", "labels": "masks"}),
    )
    out = criterion({"seg": scores, "labels": labels, "mask": mask_scores, "masks": masks})
    close(out.terms["ce"], lf.CrossEntropyLoss()(scores, labels))
    close(out.terms["dice"], lf.DiceLoss(link="sigmoid")(mask_scores, masks))


@native
def test_another_ignored_value_or_bins_is_another_fold() -> None:
    data = make_dense(DenseCase("DiceLoss", {"link": "sigmoid"}), (7, 9), target="bool")
    for one, other in [
        (lf.BinaryCrossEntropyLoss(), lf.DiceLoss(link="sigmoid", ignore_index=255)),
        (lf.LovaszLoss(link="hinge"), lf.LovaszLoss(link="sigmoid")),
        (lf.LovaszLoss(link="hinge"), lf.LovaszLoss(link="hinge", bins=1024)),
        (lf.BinaryCrossEntropyLoss(), lf.BinaryCrossEntropyLoss(link="identity")),
    ]:
        scores = data.scores.sigmoid()
        with Watch() as watch:
            out = lf.LossSet(one=one, other=other)(scores, data.labels)
        assert watch.count("dense_fold") == 2
        close(out.total, one(scores, data.labels) + other(scores, data.labels))


def additive() -> list[DenseCase]:
    return [c for c in dense_cases() if c.options.get("reduction") != "none" and c.adds_up]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", additive(), ids=lambda case: case.id)
def test_folds_of_halves_add_up(case: DenseCase, engine: str) -> None:
    """Left and right of every image; and the images, where the loss is one over the batch."""
    loss = case.build(engine=engine)
    data = make_dense(case, (7, 9), batch=3, weight="element")
    truth, slope = evaluate(loss, data)
    leaf = data.leaf()
    cuts: list[Any] = [[(..., slice(0, 4)), (..., slice(4, 9))]]
    cuts += [] if case.by_image else [[slice(0, 1), slice(1, 3)]]
    for cut in cuts:
        folds, (given, _) = zip(
            *(internals.collected(loss, *(None if t is None else t[part] for t in leaf.call)) for part in cut), strict=True
        )
        folds = folds if case.by_image else [fold.sum_images() for fold in folds]
        result = internals.settled(loss, folds[0] + folds[1], given)
        (gradient,) = torch.autograd.grad(result, leaf.scores)
        close(result.detach(), truth)
        close(gradient, slope)
        assert not torch.equal(internals.settled(loss, folds[0], given).detach(), truth)


def test_a_set_survives_pickle_and_compile() -> None:
    import pickle

    criterion = lf.LossSet(SETS["masks"])
    data = make_dense(DenseCase("DiceLoss", {"link": "sigmoid"}), (7, 9), weight="pixel")
    truth, slope = evaluate(criterion, data)
    result, gradient = evaluate(pickle.loads(pickle.dumps(criterion)), data)
    same_bits(result, truth)
    same_bits(gradient, slope)
    torch._dynamo.reset()
    leaf: Data = data.leaf()
    result = torch.compile(lambda *given: criterion(*given).total, fullgraph=True, backend="aot_eager")(*leaf.call)
    close(result.detach(), truth)
    close(torch.autograd.grad(result, leaf.scores)[0], slope)
