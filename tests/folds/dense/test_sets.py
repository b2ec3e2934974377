"""Sets of dense losses: one fold and one unfold for all that can share them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import lossfold as lf
from tests.contract.case import both_same, close, evaluate
from tests.contract.cases import native
from tests.folds.dense.cases import DenseCase
from tests.internals import Watch

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
    data = DenseCase("DiceLoss", {"link": link}).make((7, 9), way=(target, "pixel"))
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
    data = DenseCase("DiceLoss", {"link": "sigmoid"}).make((7, 9), way=("bool", None))
    for one, other in [
        (lf.BinaryCrossEntropyLoss(), lf.DiceLoss(link="sigmoid", ignore_index=255)),
        (lf.LovaszLoss(link="hinge", exact=False), lf.LovaszLoss(link="sigmoid", exact=False)),
        (lf.LovaszLoss(link="hinge", exact=False), lf.LovaszLoss(link="hinge", bins=1024, exact=False)),
        (lf.BinaryCrossEntropyLoss(), lf.BinaryCrossEntropyLoss(link="identity")),
    ]:
        scores = data.pred.sigmoid()
        with Watch() as watch:
            out = lf.LossSet(one=one, other=other)(scores, data.truth)
        assert len(watch.names) == 2
        close(out.total, one(scores, data.truth) + other(scores, data.truth))


def test_a_set_survives_pickle() -> None:
    criterion = lf.LossSet(SETS["masks"])
    data = DenseCase("DiceLoss", {"link": "sigmoid"}).make((7, 9), way=("soft", "pixel"))
    truth, slope = evaluate(criterion, data)
    both_same(evaluate(pickle.loads(pickle.dumps(criterion)), data), (truth, slope))
