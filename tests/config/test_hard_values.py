"""Values that are hard to print, to compare or to hash are refused like any other."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

import lossfold as lf

HUGE = 10**5000
PLACES: dict[str, Any] = {
    "a type": lambda x: {"type": x},
    "a list of types": lambda x: {"type": [x]},
    "an option": lambda x: {"type": "DiceLoss", "smooth": x},
    "a list in an option": lambda x: {"type": "DiceLoss", "average": [x]},
    "inputs": lambda x: {"type": "DiceLoss", "inputs": {"logits": x}},
    "_convert_": lambda x: {"_target_": "DiceLoss", "_convert_": x},
    "_args_": lambda x: {"_target_": "DiceLoss", "_args_": x},
    "_mode_": lambda x: {"_target_": "DiceLoss", "_mode_": x},
    "_partial_": lambda x: {"_target_": "DiceLoss", "_partial_": x},
    "loss_name": lambda x: {"a": {"type": "DiceLoss", "loss_name": x}},
    "loss_name in a list": lambda x: [{"type": "DiceLoss", "loss_name": x}],
    "init_args": lambda x: {"class_path": "DiceLoss", "init_args": x},
    "a term": lambda x: {"type": "LossSet", "a": x},
    "the whole": lambda x: x,
    "a schedule": lambda x: {"a": {"type": "DiceLoss", "schedule": x}},
    "an interval": lambda x: {"a": {"type": "DiceLoss", "every": x}},
    "a preset's weight": lambda x: {"type": "mask_losses", "bce": x},
}
VALUES = {
    "huge": HUGE,
    "array": np.ones(3),
    "arrays": [np.ones(2), np.ones((2, 2))],
    "tensor": torch.ones(3),
    "long": "x" * 10**6,
    "set": {1, 2},
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("where", PLACES)
def test_hard_values_are_refused(where: str, what: str) -> None:
    if what == "long" and where in ("inputs", "loss_name in a list"):  # a text is what stands there
        return
    with pytest.raises(lf.LossError) as caught:
        lf.build(PLACES[where](VALUES[what]))
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "config",
    [
        {HUGE: {"type": "DiceLoss"}},
        {"type": "DiceLoss", "inputs": {HUGE: "a"}},
        {"type": "DiceLoss", "inputs": {(HUGE,): "a"}},
        {"type": "DiceLoss", "smooth": {HUGE: 1}},
        {"class_path": "DiceLoss", "init_args": {HUGE: 1}},
        {"a": {"type": "L1Loss", "schedule": {"type": "step", "values": {HUGE: 1.0}}}},
        {"type": "LossSet", "terms": {HUGE: {"type": "DiceLoss"}}},
        {"type": "DiceLoss", "x" * 10**6: 1},
    ],
    ids=range(8),
)
def test_hard_keys_are_refused(config: Any) -> None:
    with pytest.raises(lf.LossError) as caught:
        lf.build(config)
    assert len(str(caught.value)) < 1500


def test_long_words_are_cut() -> None:
    begin = time.process_time()
    for make in (lambda x: lf.DiceLoss(average=x), lambda x: lf.DiceLoss(smooth=x), lambda x: lf.LOSSES[x]):
        with pytest.raises(lf.LossError) as caught:
            make("x" * 10**6)
        assert "x" * 100 in str(caught.value) and max(map(len, str(caught.value).split())) <= 202
        with pytest.raises(lf.LossError) as caught:
            make("x " * 10**6)
        assert len(str(caught.value)) < 2000
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("weight", [{}, "", [], None, False, True, "0", float("nan")], ids=repr)
@pytest.mark.parametrize("name", ["bce", "dice", "focal"])
@pytest.mark.parametrize("preset", ["mask_losses", "pixel_losses"])
def test_a_presets_weight_is_a_number(preset: str, name: str, weight: Any) -> None:
    with pytest.raises(lf.LossError, match=rf"{name} must be a number"):
        getattr(lf.presets, preset)(**{name: weight})
    assert getattr(lf.presets, preset)(**{"bce": 1, name: 0}) if name != "bce" else True
