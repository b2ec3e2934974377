"""What a set says of its passes, before it is called and of a call."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import lossfold as lf
from lossfold import engines
from tests.contract.cases import native

LABELS = {"ce": lf.CrossEntropyLoss(), "dice": lf.DiceLoss()}
LINEAR = {
    "ce": (lf.CrossEntropyLoss(), True),
    "bce": (lf.BinaryCrossEntropyLoss(), True),
    "focal": (lf.FocalLoss(), True),
    "l1": (lf.L1Loss(), True),
    "normalised by its own weights": (lf.FocalLoss(normalize="focal"), False),
    "of each image": (lf.CrossEntropyLoss(per_image=True), False),
    "ohem": (lf.OhemCrossEntropyLoss(), False),
    "dice": (lf.DiceLoss(), False),
    "gradients": (lf.GradientLoss(), False),
    "weighed by a step": (lf.Term(lf.CrossEntropyLoss(), every=2), True),
    "gated": (lf.Term(lf.CrossEntropyLoss(), when="here"), False),
}


def scores(device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(2, 4, 4, dtype=torch.int64, device=device)
    return torch.zeros(2, 3, 4, 4, dtype=dtype, device=device, requires_grad=True), labels


def test_before_a_call_it_names_who_serves_what() -> None:
    assert f", {engines.serving()})" in lf.LossSet(LABELS).plan()
    assert ", eager):" in lf.LossSet(dice=lf.DiceLoss(engine="eager")).plan()


@native
@pytest.mark.parametrize(("loss", "once"), LINEAR.values(), ids=LINEAR)
def test_one_pass_is_told(loss: torch.nn.Module, once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told = lf.LossSet(a=loss).plan()
    having = engines.with_one_pass(None)
    assert "cpp" in having and ("in one pass" in told) == once
    assert f"value and gradient in one pass ({having})" in told or not once
    monkeypatch.setenv("LOSSFOLD_ENGINE", "eager")
    assert "in one pass" not in lf.LossSet(a=loss).plan()


@native
def test_of_a_call() -> None:
    z, y = scores()
    assert lf.LossSet(LABELS).plan(z, y).splitlines() == [
        "label fold (link=softmax, ignore_index=-100, cpp): ce, dice [weight, nll, prob, prob_at_label]",
        "passes over the pixels: 1 forward, 1 backward",
    ]
    alone = lf.LossSet(ce=lf.CrossEntropyLoss())
    assert alone.plan(z, y).splitlines() == [
        "label fold (link=softmax, ignore_index=-100, cpp): ce [weight, nll], value and gradient in one pass",
        "passes over the pixels: 1 forward, 0 backward",
    ]
    half = alone.plan(*scores(dtype=torch.float16))
    assert "in one pass" not in half and "1 forward, 1 backward" in half
    weight = torch.ones(2, 4, 4, requires_grad=True)
    assert "eager): ce [weight, nll]\n" in alone.plan(z, y, weight)
    both = lf.LossSet(ce=lf.CrossEntropyLoss(inputs={"logits": "one"}), dice=lf.DiceLoss(inputs={"logits": "two"}))
    assert "2 forward, 1 backward" in both.plan({"one": z, "two": scores()[0], "labels": y})
    with pytest.raises(lf.LossError, match="labels must be of shape"):
        alone.plan(z, y[:1])


@pytest.mark.skipif(bool(engines.triton.problem()), reason="Triton is not here")
def test_of_a_call_on_a_gpu() -> None:
    """By tensors that are not there: what can't be served by triton is told as well."""
    criterion = lf.LossSet(LABELS)
    with FakeTensorMode():
        assert "triton): ce, dice" in criterion.plan(*scores("cuda"))
        assert "eager): ce, dice" in criterion.plan(*scores("cuda", torch.float64))
