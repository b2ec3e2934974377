"""Losses that find their arguments in one dict of outputs, and sets over several heads."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import lossfold as lf
from tests.cases import close

MAIN, AUX = {"logits": "heads.1"}, {"logits": "heads.0"}


def outputs() -> dict[str, object]:
    return {"heads": [torch.randn(2, 4, 5, 6), torch.randn(2, 4, 3, 3)], "labels": torch.randint(0, 4, (2, 10, 12))}


def balanced() -> lf.LossSet:
    return lf.LossSet(
        ce=lf.CrossEntropyLoss(inputs=MAIN), lovasz=0.5 * lf.LovaszLoss(inputs=MAIN), aux=0.4 * lf.CrossEntropyLoss(inputs=AUX)
    )


def test_balanced_heads_are_the_sum_by_hand() -> None:
    given = outputs()
    (aux, main), labels = given["heads"], given["labels"]  # type: ignore[misc]
    out = balanced()(given)
    ce = lf.CrossEntropyLoss()
    close(out.total, ce(main, labels) + 0.5 * lf.LovaszLoss()(main, labels) + 0.4 * ce(aux, labels), rtol=1e-6, atol=1e-6)
    close(balanced()(outputs_dict=given).total, out.total)


def test_passes_are_shared_where_inputs_agree() -> None:
    lines = balanced().plan().splitlines()
    assert len(lines) == 2 and "ce, lovasz" in lines[0] and "heads.1" in lines[0] and "aux" in lines[1]


def test_weights_and_names_in_the_dict() -> None:
    given = outputs() | {"mask": {"valid": torch.rand(2, 10, 12) > 0.5}}
    loss = lf.CrossEntropyLoss(inputs=MAIN | {"weight": "mask.valid"})
    close(loss(given), lf.CrossEntropyLoss()(given["heads"][1], given["labels"], given["mask"]["valid"]))  # type: ignore[index]
    assert loss({"heads.1": given["heads"][0], "mask.valid": None, "labels": given["labels"]}) > 0  # type: ignore[index]


def test_round_trips() -> None:
    given = outputs()
    loss = balanced()
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), eval(repr(loss), vars(lf))):
        close(other(given).total, loss(given).total)
    built = lf.build({"type": "LossSet", "ce": {"type": "CrossEntropyLoss", "inputs": MAIN}})
    close(built(given).total, lf.CrossEntropyLoss(inputs=MAIN)(given))
    preset = lf.CEDiceLoss(inputs=MAIN)
    close(preset(given).total, lf.CEDiceLoss()(given["heads"][1], given["labels"]).total)  # type: ignore[index]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"logits": "head"}, r"logits must be at 'head' in the outputs, got no 'head' among \['heads', 'labels'\]"),
        ({"logits": "heads.7"}, "no '7' among list of 2"),
        ({"logit": "heads.0"}, "did you mean 'logits'"),
    ],
    ids=str,
)
def test_what_is_missing_is_named(inputs: dict[str, str], message: str) -> None:
    with pytest.raises(lf.LossError, match=message):
        lf.LossSet(a=lf.DiceLoss(inputs=inputs))(outputs())


def test_a_loss_with_inputs_wants_one_dict() -> None:
    given = outputs()
    with pytest.raises(lf.LossError, match="one dict"):
        lf.DiceLoss(inputs=MAIN)(given["heads"], given["labels"])
    with pytest.raises(lf.LossError, match="a dict from argument names to paths"):
        lf.DiceLoss(inputs="heads.0")  # type: ignore[arg-type]
    with pytest.raises(lf.LossError, match="labels must be an integer tensor"):
        lf.DiceLoss(inputs=MAIN)({"heads": given["heads"], "labels": None})
