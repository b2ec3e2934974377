"""The JSON schema says what `build` takes: what is built fits, and what is wrong in a way that an editor can see does not."""

from __future__ import annotations

import functools
import json
from typing import Any

import hypothesis
import pytest

import lossfold as lf
from lossfold.config.describe import described, meanings_of
from lossfold.config.schema import schema
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
        options = {key: [0.5, 2.0] if value == "random" and key != "pretrained" else value for key, value in sample.items()}
        config = lf.to_config(lf.LOSSES[name](**options))
        for fitting in (config, {"class_path": f"lossfold.{name}", "init_args": {k: v for k, v in config.items() if k != "type"}}):
            lf.build(fitting)
            validator().validate(fitting)


@pytest.mark.parametrize("what", SETS)
def test_every_set_fits(what: str) -> None:
    validator().validate(lf.to_config(SETS[what]))


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
    assert options["class_weight"]["anyOf"] == [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]
    lovasz = definitions["options of LovaszLoss"]["properties"]["classes"]
    assert lovasz["anyOf"] == [{"enum": ["present", "all"]}, {"type": "array", "items": {"type": "integer"}}]
    assert definitions["options of MattingLoss"]["properties"]["alpha_link"]["enum"] == ["identity", "sigmoid"]
    assert "torch.nn.L1Loss" not in definitions["node"]["properties"]["type"]["enum"]
    assert "torch.nn.L1Loss" in schema(allow=ALLOW)["$defs"]["node"]["properties"]["type"]["enum"]


def test_every_option_of_every_loss_is_documented() -> None:
    shared = {"sync", "process_group", "class_weight", "align_corners"}
    for name, cls in lf.LOSSES.items():
        missing = [option.name for option in described(cls) if not option.meaning]
        assert not set(missing) - shared, (name, missing)
    assert meanings_of(lf.presets.mask_losses)["bce"].startswith("the weight of the cross entropy")


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
