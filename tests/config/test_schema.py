"""The JSON schema says what `build` takes: what is built fits, and what is wrong in a way that an editor can see does not."""

from __future__ import annotations

import functools
import json
from typing import Any

import hypothesis
import pytest
import torch

import lossfold as lf
from lossfold.config.describe import described, meanings_of
from lossfold.config.schema import schema
from tests import internals
from tests.config.dialects import DIALECTS
from tests.config.test_export import SETS
from tests.config.test_random import ALLOW, configs, settings


@functools.cache
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    made = json.loads(json.dumps(schema(allow=ALLOW)))  # as a file holds it
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_fits(dialect: str) -> None:
    validator().validate(DIALECTS[dialect])


@pytest.mark.parametrize("name", lf.LOSSES)
def test_every_loss_fits(name: str) -> None:
    for sample in getattr(lf.LOSSES[name], "samples", ()):
        config = lf.to_config(lf.LOSSES[name](**internals.of_two_classes(sample)))
        for fitting in (config, {"class_path": f"lossfold.{name}", "init_args": {k: v for k, v in config.items() if k != "type"}}):
            lf.build(fitting)
            validator().validate(fitting)


@pytest.mark.parametrize("what", SETS)
def test_every_set_fits(what: str) -> None:
    validator().validate(lf.to_config(SETS[what]))


RAMP = {"type": "linear", "start": 0.0, "end": 1.0, "steps": 10}
RIGHT: list[Any] = [
    {"a": {"type": "DiceLoss", "schedule": RAMP, "every": 4, "when": "x", "when_mean": "all"}},
    {
        "a": {
            "class_path": "DiceLoss",
            "init_args": {"schedule": {"class_path": "CosineSchedule", "init_args": {**RAMP}}, "every": 4},
        }
    },
    {"a": {"type": "LossSet", "b": {"type": "L1Loss"}, "every": 4}, "c": {"type": "stylegan2_generator", "every": 2}},
    {"a": {"type": "L1Loss", "schedule": {"type": "step", "values": {"0": 0.0, "10": 1.0}}}},
    {"a": {"type": "Term", "loss": {"type": "DiceLoss"}, "every": 4}},
    {"every": {"type": "L1Loss"}, "terms": {"type": "MSELoss"}},
    {"type": "DiceLoss", "reduction": "none", "engine": None},
    {"type": "DiceLoss", "engine": "cpp"},
    {"type": "GANLoss", "gan_type": "hinge"},
    {"class_path": "GANLoss", "init_args": {}, "dict_kwargs": {"gan_type": "hinge"}},
    {"type": "LossSet", "sync": True, "gradients": "sum", "a": {"type": "L1Loss"}},
    {"type": "LossSet", "sync": False, "terms": [{"type": "L1Loss", "loss_name": "a"}]},
    {"type": "FaceIdLoss", "pretrained": "random"},
]
del RIGHT[1]["a"]["init_args"]["schedule"]["init_args"]["type"]


@pytest.mark.parametrize("config", RIGHT, ids=str)
def test_what_is_right_fits(config: Any) -> None:
    lf.build(config, allow=ALLOW)
    validator().validate(config)


@pytest.mark.parametrize(
    "config",
    [
        {"type": "DiceLos"},
        {"type": "DiceLoss", "smoth": 1.0},
        {"type": "DiceLoss", "smooth": "1e-3"},
        {"type": "DiceLoss", "average": "avg"},
        {"type": "DiceLoss", "per_image": 1},
        {"type": "DiceLoss", "_target_": "DiceLoss"},
        {"type": "CrossEntropyLoss", "class_weight": ["a"]},
        {"type": "CrossEntropyLoss", "class_weight": [1.0, -1.0]},
        {"type": "FocalLoss", "alpha": -0.5},
        {"type": "SSIMLoss", "window_size": 4},
        {"type": "MixedMattingLoss", "tolerance": 0.5},
        {"type": "stylegan2_generator", "path_every": 0},
        {"type": "mask_losses", "smooth": -1.0},
        {"_target_": "DiceLoss", "_partial_": True},
        {"_target_": "torch.nn.MSELoss"},
        {"class_path": "DiceLoss", "smooth": 1.0},
        {"class_path": "DiceLoss", "init_args": {"smoth": 1.0}},
        {"type": "LossSet", "a": {"type": "DiceLos"}},
        {"type": "LossSet", "terms": [{"type": "DiceLoss", "smoth": 1}]},
        {"type": "LossSet", "terms": {"a": 3}},
        {"class_path": "LossSet", "init_args": {"a": {"type": "DiceLos"}}},
        {"a": {"type": "DiceLos"}},
        {"a": 3},
        {"type": "DiceLoss", "smooth": -1},
        {"type": "LovaszLoss", "bins": 1},
        {"type": "HuberLoss", "delta": 0},
        {"type": "DiceLoss", "engine": "cuda"},
        {"type": "DiceLoss", "every": 4},
        {"class_path": "DiceLoss", "init_args": {"when": "x"}},
        {"type": "mask_losses", "schedule": RAMP},
        {"type": "GANLoss"},
        {"class_path": "GANLoss", "init_args": {"is_disc": True}},
        {"class_path": "GANLoss"},
        {"type": "GANLoss", "gan_type": "hinges"},
        {"type": "PerceptualLoss"},
        {"type": "PerceptualLoss", "pretrained": None},
        {"class_path": "PerceptualLoss", "init_args": {"norm_img": True}},
        {"type": "LossSet"},
        {"type": "LossSet", "loss_weight": 2.0},
        {"class_path": "LossSet"},
        {"class_path": "LossSet", "init_args": {"loss_weight": 2.0}},
        {"type": "LossSet", "terms": {}},
        {"type": "LossSet", "sync": 1, "a": {"type": "DiceLoss"}},
        {"type": "LossSet", "sync": True, "gradients": "max", "a": {"type": "DiceLoss"}},
        {"type": "LossSet", "a.b": {"type": "DiceLoss"}},
        {"a.b": {"type": "DiceLoss"}},
        {"a": {"type": "DiceLoss", "every": 0}},
        {"a": {"type": "DiceLoss", "when_mean": "some"}},
        {"a": {"type": "DiceLoss", "reduction": "none"}},
        {"a": {"class_path": "DiceLoss", "init_args": {"reduction": "none"}}},
        [{"type": "DiceLoss", "reduction": "none"}],
        {"a": {"type": "CEDiceLoss", "when": "x"}},
        {"a": {"type": "LossSet", "b": {"type": "DiceLoss"}, "when": "x"}},
        {"a": {"type": "mask_losses", "when": "x"}},
        {"a": {"type": "DiceLoss", "schedule": {"type": "linear"}}},
        {"a": {"type": "DiceLoss", "schedule": {**RAMP, "star": 1}}},
        {"a": {"type": "DiceLoss", "schedule": {**RAMP, "steps": 0}}},
        {"a": {"type": "DiceLoss", "schedule": {**RAMP, "type": "linaer"}}},
        {"a": {"type": "DiceLoss", "schedule": {"type": "DiceLoss"}}},
        {"a": {"type": "DiceLoss", "schedule": {"type": "step", "values": {"x": 1.0}}}},
        {"a": {"type": "DiceLoss", "schedule": 0.5}},
        {"a": {"type": "Term", "loss": {"type": "DiceLoss"}, "schedule": {"type": "DiceLoss"}}},
        {"a": {"type": "Term", "every": 4}},
        {"a": RAMP},
        {"type": "Term", "loss": {"type": "DiceLoss"}},
        RAMP,
        {},
        [],
        [{"type": "DiceLos"}],
        3,
    ],
    ids=str,
)
def test_what_is_wrong_does_not_fit(config: Any) -> None:
    with pytest.raises(lf.LossError):
        lf.build(config, allow=ALLOW)
    assert not validator().is_valid(config)


def test_options_are_described() -> None:
    definitions = schema()["$defs"]
    options = definitions["options of DiceLoss"]["properties"]
    assert options["average"] == {"enum": ["macro", "micro"], "description": '"macro" or "micro".', "default": "macro"}
    assert options["smooth"]["type"] == "number" and "s >= 0" in options["smooth"]["description"]
    assert options["class_weight"]["anyOf"] == [
        {"type": "array", "items": {"type": "number", "minimum": 0}},
        {"type": "null"},
    ]
    lovasz = definitions["options of LovaszLoss"]["properties"]["classes"]
    several = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}
    assert lovasz["anyOf"] == [{"enum": ["present", "all"]}, several]
    assert definitions["options of MattingLoss"]["properties"]["alpha_link"]["enum"] == ["identity", "sigmoid"]
    assert "torch.nn.L1Loss" not in definitions["node"]["properties"]["type"]["anyOf"][0]["enum"]
    assert "torch.nn.L1Loss" in schema(allow=ALLOW)["$defs"]["node"]["properties"]["type"]["anyOf"][0]["enum"]


def test_every_option_of_every_loss_is_documented() -> None:
    shared = {"class_weight", "align_corners"}
    for name, cls in lf.LOSSES.items():
        missing = [option.name for option in described(cls) if not option.meaning]
        assert not set(missing) - shared, (name, missing)
    assert meanings_of(lf.presets.mask_losses)["bce"].startswith("the weight of the cross entropy")


class Quartered:
    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, step: int) -> float:
        return self.start / 4


class Bare(torch.nn.Module):
    def forward(self, pred: Any, target: Any) -> Any:
        return pred


def test_what_is_allowed_is_in_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    checked = jsonschema.Draft202012Validator(schema(allow=[Quartered, Bare]))
    config = {"a": {"type": "Bare", "schedule": {"type": "Quartered", "start": 1.0}}}
    lf.build(config, allow=[Quartered, Bare])
    checked.validate(config)
    assert not checked.is_valid({"a": {"type": "L1Loss", "schedule": {"type": "Quartered"}}})
    assert not checked.is_valid({"a": {"type": "L1Loss", "schedule": {"type": "Bare"}}})
    assert schema(allow=[Bare])["$defs"]["options of Bare"]["description"] == ""  # not that of PyTorch's modules


def test_ranges_and_words_come_from_what_fields_declare() -> None:
    definitions = schema()["$defs"]
    assert definitions["options of LovaszLoss"]["properties"]["bins"] | {"description": ""} == {
        "type": "integer",
        "minimum": 2,
        "maximum": 65536,
        "default": definitions["options of LovaszLoss"]["properties"]["bins"]["default"],
        "description": "",
    }
    assert definitions["options of HuberLoss"]["properties"]["delta"]["exclusiveMinimum"] == 0
    assert definitions["options of Term"]["properties"]["every"]["minimum"] == 1
    window = definitions["options of SSIMLoss"]["properties"]["window_size"]
    assert window["maximum"] == 63 and window["not"] == {"multipleOf": 2}
    assert {"eager", "cpp", None} <= set(definitions["options of DiceLoss"]["properties"]["engine"]["enum"])


def test_what_is_built_of_random_configs_fits() -> None:
    built = 0

    @settings(150)
    @hypothesis.given(configs)
    def each(config: Any) -> None:
        nonlocal built
        try:
            lf.build(config, allow=ALLOW)
        except lf.LossError:
            return
        built += 1
        validator().validate(json.loads(json.dumps(config)))

    each()
    assert built > 50
