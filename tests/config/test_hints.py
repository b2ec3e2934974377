"""What an error says to do is what was meant: the options of terms, schedules, numbers and truths in quotes, names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import lossfold as lf

L1 = {"type": "L1Loss"}
RAMP = {"type": "linear", "start": 0.0, "end": 1.0, "steps": 10}


def refused(config: Any, *words: str, **options: Any) -> str:
    with pytest.raises(lf.LossError) as caught:
        lf.build(config, **options)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_misspelt_options_of_terms() -> None:
    refused({"a": {**L1, "shedule": RAMP}}, r"cfg\.a\.shedule", "did you mean 'schedule'")
    refused({"a": {**L1, "evry": 4}}, r"cfg\.a\.evry", "did you mean 'every'")
    refused({"a": {**L1, "sampel_wise": True}}, "did you mean 'sample_wise'")
    refused({"o": {"type": "LossSet", "a": L1, "evry": 4}}, r"cfg\.o\.evry", "did you mean 'every'")
    refused({"type": "LossSet", "a": L1, "loss_wieght": 4}, "did you mean 'loss_weight'")
    assert "schedule" not in refused({**L1, "shedule": RAMP})  # which is none of its options


@pytest.mark.parametrize("option", [{"every": 4}, {"when": "x"}, {"schedule": RAMP}, {"when_mean": "all"}], ids=str)
@pytest.mark.parametrize("loss", [L1, {"type": "mask_losses"}, {"type": "CEDiceLoss"}], ids=str)
def test_options_of_terms_without_a_set(loss: dict[str, Any], option: dict[str, Any]) -> None:
    (name,) = option
    refused({**loss, **option}, rf"cfg\.{name} must be", "an option of a term in a set", re.escape("{'name': {"))
    if name != "when" or loss is L1:
        assert isinstance(lf.build({"a": {**loss, **option}}).members[0], lf.Term)


def test_schedules_are_named_among_schedules() -> None:
    for wrong in ("linaer", "DiceLoss", "lossfold.DiceLoss", "mask_losses", "Term", 3):
        message = refused({"a": {**L1, "schedule": {"type": wrong}}}, r"cfg\.a\.schedule\.type must be the name of a schedule")
        assert "StepSchedule" in message and "CrossEntropyLoss" not in message
    refused({"a": {"type": "Term", "loss": L1, "schedule": {"type": "DiceLoss"}}}, "the name of a schedule")
    for wrong in ("linear", {"start": 0.0}, lf.DiceLoss()):
        refused({"a": {**L1, "schedule": wrong}}, r"cfg\.a\.schedule must be a schedule, as \{'type': 'linear'")
    refused({"a": {**L1, "schedule": 0.5}}, r"0\.5 \* loss")
    refused({"a": {**L1, "schedule": {"type": lf.DiceLoss}}}, "the name of a schedule")


def test_steps_of_json_are_texts(tmp_path: Path) -> None:
    expected = lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=lf.StepSchedule({0: 0.0, 10: 1.0})))
    config = lf.to_config(expected)
    (tmp_path / "a.json").write_text(json.dumps(config))
    for given in (config, json.loads(json.dumps(config)), tmp_path / "a.json"):
        assert repr(lf.build(given)) == repr(expected)
    for values, word in {
        '{"0": 0, "x": 1}': "the key 'x'",
        '{"0": 0, "-1": 1}': "the key '-1'",
        '{"0": 0, "1.5": 1}': "'1.5'",
    }.items():
        (tmp_path / "a.json").write_text(json.dumps({"a": {**L1, "schedule": {"type": "step", "values": json.loads(values)}}}))
        refused(tmp_path / "a.json", r"a\.schedule\.values", "a key that is an integer", re.escape(word))
    refused({"a": {**L1, "schedule": {"type": "step", "values": {"0": 0.0, 0: 1.0}}}}, "the key 0 twice")


def test_many_names_are_not_listed() -> None:
    for message in (refused({"type": "Zzz"}, "`lossfold list`"), refused({"type": "DiceLos"}, "did you mean 'DiceLoss'")):
        assert "TverskyLoss" not in message
    refused({"type": "Zzz"}, "allowed: mine", allow={"mine": lf.L1Loss})
    with pytest.raises(lf.LossError) as caught:
        lf.LOSSES["Zzz"]
    assert len(str(caught.value)) < 200


def test_texts_in_place_of_numbers_and_truths() -> None:
    assert "PyYAML" in refused({"type": "DiceLoss", "smooth": "1e-3"}, "it is a text", r"1\.0e-3")
    for option, value in {"ignore_index": "255", "smooth": "0.5"}.items():
        assert "PyYAML" not in refused({"type": "DiceLoss", option: value}, r"\(it is a text here, in quotes\)$")
    assert "in quotes" not in refused({"type": "DiceLoss", "average": "255"}, "macro")
    for text, truth in {"yes": "true", "off": "false", "False": "false"}.items():
        refused({"type": "DiceLoss", "per_image": text}, f"write {truth} without quotes")
    refused({"a": {"class_path": "L1Loss", "init_args": {"every": "4"}}}, r"cfg\.a\.init_args\.every must be", "in quotes")


def test_the_name_of_a_term() -> None:
    named = {"type": "GANLossComps", "gan_type": "hinge", "loss_name": "y"}
    refused({"x": named}, r"cfg\.x\.loss_name", "'x' or left out")
    assert lf.build({"y": named}).names == ["y"] and lf.build({"y": {**named, "loss_name": None}}).names == ["y"]
    built = lf.build([named, named, L1])
    assert built.names == ["y_1", "y_2", "l1_loss"] and built["y_1"].loss_name is None  # the key is the name
    assert repr(lf.build(lf.to_config(built))) == repr(built)
    assert lf.to_config(lf.LossSet(x=lf.GANLossComps("hinge", loss_name="y")))["x"] == {"type": "GANLossComps", "gan_type": "hinge"}


OPTION_FILE = """
name: MSRResNet_x4
train:
  optim_g: {type: Adam, lr: !!float 2e-4, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [250000], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: 5e-3}
dist_params: ~
"""


def test_a_file_of_basicsr(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "option.yml").write_text(OPTION_FILE)
    assert repr(lf.build(str(tmp_path / "option.yml"), key="train.pixel_opt")) == repr(lf.L1Loss())
    assert lf.build(tmp_path / "option.yml", key="train.gan_opt").loss_weight == 0.005


def test_mmengines_config() -> None:
    mmengine = pytest.importorskip("mmengine")
    config = mmengine.Config({"model": {"loss": [{"type": "DiceLoss", "loss_name": "dice"}, {"type": "L1Loss"}]}, "loss": L1})
    assert lf.build(config, key="model.loss").names == ["dice", "l1_loss"]
    assert repr(lf.build(config.loss)) == repr(lf.build(mmengine.Config(L1))) == "L1Loss()"


def test_build_loss_is_build() -> None:
    assert lf.build_loss is lf.build
