"""One set in each dialect is the same object with the same values; what a dialect has beyond that is refused with words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lossfold as lf
from tests.config.dialects import DIALECTS
from tests.contract.case import same_bits
from tests.folds.label.cases import LabelCase

yaml = pytest.importorskip("yaml")
BY_HAND = lf.LossSet(
    ce=lf.CrossEntropyLoss(ignore_index=255, class_weight=[1.0, 2.0, 0.5, 1.0, 1.0]),
    dice=0.5 * lf.DiceLoss(ignore_index=255, average="micro"),
    focal=lf.FocalLoss(ignore_index=255, gamma=1.5, per_image=True),
)


def refused(config: Any, *words: str, **options: Any) -> None:
    with pytest.raises(lf.LossError) as caught:
        lf.build(config, **options)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


@pytest.mark.parametrize("form", ["dict", "yaml", "json"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_the_same_set(dialect: str, form: str, tmp_path: Path) -> None:
    config = DIALECTS[dialect]
    before = json.dumps(config)
    if form == "dict":
        built = lf.build(config)
    else:
        file = tmp_path / f"losses.{form}"
        file.write_text(json.dumps(config) if form == "json" else yaml.safe_dump(config, sort_keys=False))
        built = lf.build(file)
    assert json.dumps(config) == before, "the caller's config was changed"
    order = sorted if dialect == "mixed" else list
    assert order(built.names) == order(BY_HAND.names)
    assert sorted(map(repr, built.members)) == sorted(map(repr, BY_HAND.members))
    data = LabelCase("DiceLoss", {"ignore_index": 255}).make((5, 6))
    ours, expected = built(*data.call), BY_HAND(*data.call)
    for name, value in expected.terms.items():
        same_bits(ours.terms[name], value)
        same_bits(ours.weighted[name], expected.weighted[name])


def test_names_in_a_list() -> None:
    dice, ce = {"type": "DiceLoss"}, {"type": "CrossEntropyLoss"}
    assert lf.build([dice, ce]).names == ["dice_loss", "cross_entropy_loss"]
    assert lf.build([dice, ce, dice]).names == ["dice_loss_1", "cross_entropy_loss", "dice_loss_2"]
    assert lf.build([dice, {**dice, "loss_name": "dice_loss_1"}, dice]).names == ["dice_loss_2", "dice_loss_1", "dice_loss_3"]
    assert lf.build([{**dice, "loss_name": "a"}, {**ce, "loss_name": "a"}]).names == ["a_1", "a_2"]
    assert lf.build([lf.DiceLoss(), dice]).names == ["dice_loss_1", "dice_loss_2"]
    refused([{**dice, "loss_name": "a.b"}], r"cfg\.0\.loss_name", "without dots")
    refused({"x": {**dice, "loss_name": "loss_dice"}}, r"cfg\.x\.loss_name", "'x' or left out")
    assert lf.build({"x": {**dice, "loss_name": "x"}}).names == ["x"]
    assert lf.build({**dice, "loss_name": "loss_dice"}).loss_name == "loss_dice"
    refused([], "at least one loss")


def test_sets_without_a_type_nest() -> None:
    built = lf.build({"main": {"ce": {"type": "CrossEntropyLoss"}}, "aux": [{"_target_": "DiceLoss"}]})
    assert repr(built) == "LossSet(main=LossSet(ce=CrossEntropyLoss()), aux=LossSet(dice_loss=DiceLoss()))"


def test_losses_in_options_are_built_in_every_dialect() -> None:
    expected = lf.MattingLoss(losses={"mine": lf.L1Loss(loss_weight=2.0), "known_l1_loss": 0.5})
    for mine in ({"type": "L1Loss", "loss_weight": 2.0}, {"class_path": "lossfold.L1Loss", "init_args": {"loss_weight": 2.0}}):
        built = lf.build({"_target_": "MattingLoss", "losses": {"mine": mine, "known_l1_loss": 0.5}})
        assert repr(built) == repr(expected)
    refused({"type": "MattingLoss", "losses": [{"type": "L1Los"}]}, r"cfg\.losses\.0\.type", "L1Loss")
    refused({"type": "MattingLoss", "losses": [{"type": "L1Loss", "sample": 1}]}, r"cfg\.losses\.0\.sample", "sample_wise")


@pytest.mark.parametrize(
    "option",
    [
        {"_args_": [1.0]},
        {"_partial_": True},
        {"_recursive_": False},
        {"_convert_": "some"},
        {"_disabled_": True},
        {"_disabled_": "true"},
        {"_requires_": "$import os"},
        {"_mode_": "callable"},
        {"_target": "DiceLoss"},
        {"smooth": "$1 + 1"},
        {"smooth": "@other#smooth"},
        {"smooth": "%other.yaml#smooth"},
        {"smooth": "${model.smooth}"},
    ],
    ids=str,
)
def test_special_keys_and_values_are_refused(option: dict[str, Any]) -> None:
    (name,) = option
    refused({"_target_": "DiceLoss", **option}, rf"cfg\.{name} must be")


def test_forms_that_are_none() -> None:
    refused({"type": "DiceLoss", "_target_": "DiceLoss"}, "one of type, _target_, class_path", "type and _target_")
    refused({"class_path": "DiceLoss", "smooth": 1.0}, r"cfg\.smooth", "init_args")
    refused({"class_path": "DiceLoss", "init_args": [1.0]}, r"cfg\.init_args", "a dict")
    refused({"class_path": "DiceLoss", "init_args": {"smooth": 1}, "dict_kwargs": {"smooth": 1}}, r"dict_kwargs\.smooth", "once")
    refused({"type": "DiceLoss", "_partial_": False}, "_partial_")
    refused({"class_path": "DiceLoss", "init_args": {"smoth": 1}}, r"cfg\.init_args\.smoth", "smooth")
    refused({"class_path": "DiceLoss", "init_args": {"smooth": -1}}, r"cfg\.init_args\.smooth", ">= 0")
    refused("DiceLoss", r"\{'type': 'DiceLoss'\}")


FOREIGN = {
    "use_sigmoid": "link='sigmoid'",
    "to_onehot_y": "leave",
    "sigmoid": "link='sigmoid'",
    "batch": "leave",
    "squared_pred": "squared",
    "smooth_nr": "smooth",
    "weight": "class_weight",
    "mode": "link",
    "log_loss": "log",
    "ignore_label": "ignore_index",
}


@pytest.mark.parametrize("option", FOREIGN)
def test_other_libraries_options_are_named_not_translated(option: str) -> None:
    refused({"type": "DiceLoss", option: True}, rf"cfg\.{option} must be an option", re.escape(FOREIGN[option]))


def test_data_info_is_inputs() -> None:
    assert repr(lf.build({"type": "L1Loss", "data_info": {"pred": "fake_imgs"}})) == "L1Loss(inputs={'pred': 'fake_imgs'})"


def test_numbers_in_quotes_are_refused_with_a_hint() -> None:
    refused({"type": "DiceLoss", "smooth": "1e-3"}, r"cfg\.smooth", "'1e-3'", r"1\.0e-3")
    refused({"type": "LossSet", "a": {"type": "DiceLoss"}, "loss_weight": "0.5"}, r"cfg\.loss_weight", "in quotes")


class MyLoss(torch.nn.Module):
    def __init__(self, scale: float, loss: torch.nn.Module | None = None) -> None:
        super().__init__()
        if scale < 0:
            raise RuntimeError("no negative scale")
        self.scale, self.loss = scale, loss

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.scale * logits.mean()


def test_allowed_classes() -> None:
    mine = {"type": "MyLoss", "scale": 2.0}
    refused(mine, "MyLoss", "registered")
    refused({**mine, "type": f"{__name__}.MyLoss"}, "MyLoss", "allow")
    for allow in ([MyLoss], {"MyLoss": MyLoss}, (MyLoss,), iter([MyLoss])):
        assert lf.build(mine, allow=allow).scale == 2.0
    assert lf.build({"_target_": f"{__name__}.MyLoss", "scale": 2.0}, allow=[MyLoss]).scale == 2.0
    assert lf.build({"type": "mine", "scale": 2.0}, allow={"mine": MyLoss}).scale == 2.0
    assert lf.build({"type": MyLoss, "scale": 2.0}, allow=[MyLoss]).scale == 2.0
    refused({"type": MyLoss, "scale": 2.0}, "allow")
    built = lf.build({"ce": {"type": "CrossEntropyLoss"}, "mine": {**mine, "loss": {"type": "L1Loss"}}}, allow=[MyLoss])
    assert isinstance(built.members[1].loss, lf.L1Loss)
    refused({"type": "MyLoss"}, r"cfg\.scale must be given", allow=[MyLoss])
    refused({**mine, "scal": 1}, r"cfg\.scal ", "scale", allow=[MyLoss])
    refused({**mine, "scale": -1}, "MyLoss", "RuntimeError: no negative scale", allow=[MyLoss])
    for wrong in (3, "MyLoss", [3], {3: MyLoss}, {"a": "b"}):
        refused(mine, "allow must be", allow=wrong)


def test_allowed_classes_with_a_name_of_ours() -> None:
    theirs = {"_target_": "torch.nn.L1Loss", "reduction": "sum"}
    refused(theirs, "allow")
    assert type(lf.build(theirs, allow=[torch.nn.L1Loss])) is torch.nn.L1Loss
    assert type(lf.build({**theirs, "_target_": "torch.nn.modules.loss.L1Loss"}, allow=[torch.nn.L1Loss])) is torch.nn.L1Loss
    assert type(lf.build({"type": "lossfold.L1Loss"}, allow=[torch.nn.L1Loss])) is lf.L1Loss
    refused({"type": "L1Loss"}, "two have", "lossfold.L1Loss", "torch.nn.L1Loss", allow=[torch.nn.L1Loss])
    assert type(lf.build({"type": "L1Loss"}, allow={"L1Loss": torch.nn.L1Loss})) is torch.nn.L1Loss
    assert type(lf.build({"type": "L1Loss"})) is lf.L1Loss


def test_presets() -> None:
    assert repr(lf.build({"type": "mask_losses", "dice": 2.0})) == repr(lf.presets.mask_losses(dice=2.0))
    built = lf.build({"_target_": "lossfold.presets.pixel_losses", "ignore_index": 255, "loss_weight": 0.5})
    assert repr(built) == repr(0.5 * lf.presets.pixel_losses(ignore_index=255))
    refused({"type": "pixel_losses", "loss_weight": "x"}, r"cfg\.loss_weight")
    refused({"type": "mask_losses", "link": "sigmoid"}, "mask_losses", "link")
    refused({"type": "mask_loses"}, "did you mean 'mask_losses'")


def test_keys_into_a_larger_config() -> None:
    config = {"model": {"loss": {"type": "DiceLoss", "smooth": 0.5}, "heads": [{"type": "L1Loss"}]}}
    assert repr(lf.build(config, key="model.loss")) == "DiceLoss(smooth=0.5)"
    assert repr(lf.build(config, key="model.heads.0")) == "L1Loss()"
    for key, word in {"model.los": "did you mean 'loss'", "model.heads.1": "'1'", "model.loss.smooth.x": "'x'"}.items():
        refused(config, word, key=key)
    refused(config, "key", key=3)


def test_too_deep_too_large_and_circular() -> None:
    deep: Any = {"type": "DiceLoss"}
    for _ in range(100):
        deep = {"a": deep}
    refused(deep, "deep")
    circle: dict[str, Any] = {"type": "LossSet"}
    circle["a"] = circle
    refused(circle, "part of itself")
    laughs: Any = {"type": "DiceLoss"}
    for _ in range(12):
        laughs = {f"a{index}": laughs for index in range(9)}
    refused(laughs, "at most 1000 losses")
    refused({"type": "DiceLoss", "smooth": 10**5000}, "smooth", "a float can hold")
    refused({"type": 10**5000}, "type", "bits")
