"""Losses from dicts and from the registry."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import lossfold as lf
from tests.contract.case import same_bits
from tests.folds.label.cases import LabelCase

PAIR = {
    "type": "LossSet",
    "ce": {"type": "CrossEntropyLoss", "ignore_index": 255},
    "dice": {"type": "DiceLoss", "loss_weight": 0.5, "ignore_index": 255},
}


def test_build_gives_a_set() -> None:
    criterion = lf.build(PAIR)
    assert isinstance(criterion, lf.LossSet)
    by_hand = lf.LossSet(ce=lf.CrossEntropyLoss(ignore_index=255), dice=0.5 * lf.DiceLoss(ignore_index=255))
    data = LabelCase("DiceLoss", {"ignore_index": 255}).make((5, 6))
    same_bits(criterion(*data.call).total, by_hand(*data.call).total)
    assert list(criterion(*data.call).terms) == ["ce", "dice"]


def test_build_gives_nested_sets() -> None:
    criterion = lf.build({"type": "LossSet", "main": PAIR, "focal": {"type": "FocalLoss", "ignore_index": 255}})
    data = LabelCase("DiceLoss", {"ignore_index": 255}).make((5, 6))
    out = criterion(*data.call)
    assert list(out.terms) == ["main.ce", "main.dice", "focal"]
    torch.testing.assert_close(out.weighted["main.dice"], 0.5 * out.terms["main.dice"])


def refused(config: Any, *words: str) -> None:
    with pytest.raises(lf.LossError) as caught:
        lf.build(config)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


def test_unknown_names_are_refused_with_the_nearest() -> None:
    refused({"type": "DiceLos"}, "DiceLos", "did you mean", "DiceLoss")
    refused({"type": "FocallLoss"}, "did you mean", "FocalLoss")
    refused({"type": "Zzz"}, "Zzz", "`lossfold list` shows them")
    refused({**PAIR, "dice": {"type": "DyceLoss"}}, "dice", "DyceLoss", "DiceLoss")


def test_unknown_arguments_are_refused_with_the_nearest() -> None:
    refused({"type": "DiceLoss", "smoth": 1.0}, "DiceLoss", "smoth", "did you mean", "smooth")
    refused({"type": "FocalLoss", "gama": 1.0}, "FocalLoss", "gama", "gamma")
    refused({**PAIR, "ce": {"type": "CrossEntropyLoss", "weights": [1.0]}}, "ce", "CrossEntropyLoss", "weights")


def test_wrong_values_are_refused_by_term() -> None:
    refused({**PAIR, "dice": {"type": "DiceLoss", "average": "avg"}}, "dice", "DiceLoss", "average", "macro")


def test_what_is_no_config_is_refused() -> None:
    refused({}, "type")
    refused({"ce": {"ignore_index": 255}}, "type", "ignore_index")
    refused("DiceLoss", "dict|mapping", "str")
    refused([], "at least one loss")
    refused({"type": 3}, "type", "3")
    refused({"type": "LossSet"}, "LossSet")
    refused({"type": "LossSet", "ce": 3}, "ce", "int|3")
    refused({"type": "LossSet", "ce": {"ignore_index": 3}}, "ce", "type")


def test_the_registry() -> None:
    assert {"CrossEntropyLoss", "FocalLoss", "DiceLoss", "JaccardLoss", "TverskyLoss"} <= set(lf.LOSSES)
    assert {"GeneralizedDiceLoss", "CEDiceLoss", "LovaszLoss", "OhemCrossEntropyLoss"} <= set(lf.LOSSES)
    assert lf.LOSSES["DiceLoss"] is lf.DiceLoss
    with pytest.raises(lf.LossError, match="DiceLoss"):
        lf.LOSSES.register(lf.DiceLoss)
    with pytest.raises(lf.LossError, match="DiceLoss"):
        lf.LOSSES.register_as("DiceLoss")(lf.JaccardLoss)
    assert lf.LOSSES["DiceLoss"] is lf.DiceLoss
