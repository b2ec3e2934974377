"""Losses to configurations and back: the same loss, the same values, plain data in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import same_bits
from tests.folds.label.cases import LabelCase

yaml = pytest.importorskip("yaml")
SETS = {
    "a set": lf.LossSet(ce=lf.CrossEntropyLoss(ignore_index=255), dice=0.5 * lf.DiceLoss(ignore_index=255)),
    "nested": 0.5 * lf.LossSet(main=lf.LossSet(ce=lf.CrossEntropyLoss()), aux=3 * lf.LossSet(d=lf.DiceLoss(smooth=1e-12))),
    "names that are options": lf.LossSet(
        {"loss_weight": lf.L1Loss(), "type": lf.MSELoss(), "terms": lf.HuberLoss(), "a b": lf.L1Loss()}
    ),
    "a criterion": lf.MattingLoss(losses={"mine": lf.L1Loss(sample_wise=True), "known_l1_loss": 0.5}, reference_area=1e5),
    "two criteria": lf.MixedMattingLoss(segmentation=[lf.SmoothL1Loss(beta=0.5)], matting=["known_l1_loss"], tolerance=0.1),
    "a combination": lf.CEDiceLoss(class_weight=torch.tensor([1.0, 2.0]), dice_weight=0.5),
    "a preset": 0.5 * lf.presets.mask_losses(dice=2.0, smooth=1e-3),
    "a preset in a set": lf.LossSet(
        masks=lf.presets.mask_losses(focal=20.0, bce=0.0), pixels=lf.presets.pixel_losses(ignore_index=3)
    ),
    "inputs": lf.L1Loss(inputs={"pred": "1e-3", "target": "yes"}),
}


def there_and_back(loss: Any, folder: Path, **options: Any) -> list[Any]:
    config = lf.to_config(loss, **options)
    assert json.loads(json.dumps(config)) == config, "more than plain values"
    (folder / "a.yaml").write_text(lf.to_yaml(loss, **options))
    (folder / "a.json").write_text(json.dumps(config))
    return [lf.build(given, **options) for given in (config, folder / "a.yaml", folder / "a.json")]


@pytest.mark.parametrize("what", SETS)
def test_sets_round_trip(what: str, tmp_path: Path) -> None:
    for again in there_and_back(SETS[what], tmp_path):
        assert repr(again) == repr(SETS[what]) and type(again) is type(SETS[what])
        assert lf.to_config(again) == lf.to_config(SETS[what])


SAMPLES = [(name, options) for name, cls in lf.LOSSES.items() for options in getattr(cls, "samples", ())]


@pytest.mark.parametrize(("name", "options"), SAMPLES, ids=str)
def test_every_loss_round_trips(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    options = internals.of_two_classes(options)
    loss = lf.LOSSES[name](**options)
    if not options.get("is_disc"):  # which has no weight of its own
        loss = 0.25 * loss
    config = lf.to_config(loss)
    assert set(config) == {
        "type",
        *(["loss_weight"] if loss.loss_weight != 1 else []),
        *(key for key in options if getattr(loss, key) != getattr(lf.LOSSES[name], key, None)),
    }
    for again in there_and_back(loss, tmp_path):
        assert repr(again) == repr(loss)


def test_values_round_trip(tmp_path: Path) -> None:
    data = LabelCase("DiceLoss", {"ignore_index": 255}).make((5, 6))
    for again in there_and_back(SETS["a set"], tmp_path):
        same_bits(again(*data.call).total, SETS["a set"](*data.call).total)
    masks, logits = torch.rand(4, 6, 6) > 0.5, torch.randn(4, 6, 6)
    for again in there_and_back(SETS["a preset"], tmp_path):
        same_bits(again(logits, masks).total, SETS["a preset"](logits, masks).total)


def test_a_preset_that_was_changed_is_refused() -> None:
    changed = lf.presets.mask_losses()
    changed.members[0].loss_weight = 7.0
    with pytest.raises(lf.LossError, match="preset"):
        lf.to_config(changed)
    pixels = lf.presets.pixel_losses()  # is a plain set, whatever is changed
    pixels.members[0].loss_weight = 7.0
    assert repr(lf.build(lf.to_config(pixels))) == repr(pixels)


class MyLoss(torch.nn.Module):
    def __init__(self, scale: float, loss: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.scale, self.loss = scale, loss


class Forgetful(torch.nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()


class Telling(Forgetful):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.kept = scale

    def to_config(self) -> dict[str, Any]:
        return {"scale": self.kept}


def test_classes_of_ones_own(tmp_path: Path) -> None:
    allow = [MyLoss, Telling, torch.nn.L1Loss, torch.nn.CrossEntropyLoss]
    criterion = lf.LossSet(a=MyLoss(2.0, lf.L1Loss()), b=Telling(3.0), c=torch.nn.L1Loss(reduction="sum"), d=lf.L1Loss())
    config = lf.to_config(criterion, allow=allow)
    assert config["a"] == {"type": "MyLoss", "scale": 2.0, "loss": {"type": "lossfold.L1Loss"}}
    assert config["b"] == {"type": "Telling", "scale": 3.0}
    assert config["c"] == {"type": "torch.nn.L1Loss", "reduction": "sum"}
    for again in there_and_back(criterion, tmp_path, allow=allow):
        assert repr(again) == repr(criterion) and again.members[0].scale == 2 and again.members[1].kept == 3
        assert again.members[2].reduction == "sum"
    with pytest.raises(lf.LossError, match=r"cfg\.a must be of a class that a config can name.*allow=\[MyLoss\]"):
        lf.to_config(criterion)
    with pytest.raises(lf.LossError, match=r"'scale'.*to_config\(\)"):
        lf.to_config(Forgetful(2.0), allow=[Forgetful])
    with pytest.raises(lf.LossError, match="a loss"):
        lf.to_config({"type": "DiceLoss"})  # type: ignore[arg-type]


def test_terms_and_schedules(tmp_path: Path) -> None:
    """Beside a loss's own options in a set stand those of its term."""
    ramp = {"type": "LinearSchedule", "start": 0.5, "end": 1.0, "steps": 10}
    criterion = lf.build({"a": {"type": "L1Loss", "schedule": {**ramp, "type": "linear"}, "every": 4}, "b": {"type": "MSELoss"}})
    by_hand = lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=lf.LinearSchedule(start=0.5, end=1.0, steps=10), every=4), b=lf.MSELoss())
    assert repr(criterion) == repr(by_hand)
    config = lf.to_config(criterion)
    assert config["a"] == {"type": "Term", "loss": {"type": "L1Loss"}, "schedule": ramp, "every": 4}
    for again in there_and_back(criterion, tmp_path):
        assert repr(again) == repr(criterion)
    steps = lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=lf.StepSchedule({0: 0.0, 1000: 0.5}), when="mask"))
    (tmp_path / "steps.yaml").write_text(lf.to_yaml(steps))
    assert repr(lf.build(tmp_path / "steps.yaml")) == repr(lf.build(lf.to_config(steps))) == repr(steps)
    assert lf.build([{"class_path": "L1Loss", "init_args": {"when": "x"}}]).names == ["l1_loss"]
    for wrong in ({"type": "L1Loss", "every": 4}, {"type": "Term", "loss": {"type": "L1Loss"}}, ramp):
        with pytest.raises(lf.LossError, match="cfg"):
            lf.build(wrong)
    with pytest.raises(lf.LossError, match=r"cfg\.a\.schedule\.star "):
        lf.build({"a": {"type": "L1Loss", "schedule": {**ramp, "star": 1}}})
    with pytest.raises(lf.LossError, match=r"cfg\.a\.every"):
        lf.build({"a": {"type": "L1Loss", "every": 0}})
    with pytest.raises(lf.LossError, match=r"cfg\.a\.when.*function"):
        lf.to_config(lf.LossSet(a=lf.Term(lf.L1Loss(), when=lambda x: x)))


ODD_NAMES = ["every", "when", "schedule", "when_mean", "loss_name", "terms", "type", "sync", "gradients", "init_args", "_target_"]
ODD_NAMES += [
    "a\x85b",
    "a\u2028b",
    "a\nb",
    "a\tb",
    "\ufeffa",
    "yes",
    "1e-3",
    "null",
    "<<",
    "a: b",
    "- a",
    "#a",
    "@a",
    "%a",
    "$a",
    " a ",
    "'",
    '"',
    "é" * 200,
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
@pytest.mark.parametrize("nested", [False, True])
def test_terms_of_any_name(nested: bool, name: str, tmp_path: Path) -> None:
    criterion = lf.LossSet({name: lf.L1Loss(), "b": lf.MSELoss()})
    criterion = lf.LossSet(o=criterion) if nested else criterion
    for again in there_and_back(criterion, tmp_path):
        assert repr(again) == repr(criterion)


@pytest.mark.parametrize("text", ["a\x85b", "a\u2029b", "a\r\nb", "x" * 300 + " y" * 300, "\x07"])
def test_paths_of_any_kind(text: str, tmp_path: Path) -> None:
    for again in there_and_back(lf.L1Loss(inputs={"pred": text}), tmp_path):
        assert again.inputs == {"pred": text}


@pytest.mark.parametrize("text", ["@fake", "%fake", "$fake", "${fake}"])
def test_texts_that_build_takes_for_references_are_refused_at_both_ends(text: str) -> None:
    with pytest.raises(lf.LossError, match=r"lossfold\.to_config: cfg\.inputs\.pred must be .*an expression|.*a reference"):
        lf.to_config(lf.L1Loss(inputs={"pred": text}))
    with pytest.raises(lf.LossError, match=r"cfg\.inputs\.pred must be a plain value"):
        lf.build({"type": "L1Loss", "inputs": {"pred": text}})


class Waves:
    def __init__(self, period: int, height: float = 1.0) -> None:
        self.period, self.height = period, height

    def __call__(self, step: int) -> float:
        return self.height * (step % self.period)

    def __repr__(self) -> str:
        return f"Waves({self.period}, {self.height})"


def test_a_schedule_of_ones_own(tmp_path: Path) -> None:
    criterion = lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=Waves(7, 0.5)))
    assert lf.to_config(criterion, allow=[Waves])["a"]["schedule"] == {"type": "Waves", "period": 7, "height": 0.5}
    for again in there_and_back(criterion, tmp_path, allow=[Waves]):
        assert repr(again) == repr(criterion)
    for given, word in {
        Waves(7): r"cfg\.a\.schedule.*allow=\[Waves\]",
        (lambda step: 1.0): r"cfg\.a\.schedule.*__call__, and allow=\[",
    }.items():
        with pytest.raises(lf.LossError, match=word):
            lf.to_config(lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=given)))
    with pytest.raises(lf.LossError, match=r"cfg\.a\.when.*name a boolean tensor"):
        lf.to_config(lf.LossSet(a=lf.Term(lf.L1Loss(), when=lambda pred, target: pred)))


def test_a_network_has_no_place_in_a_config() -> None:
    with pytest.raises(lf.LossError, match=r"cfg\.network must be .*a network has no place in a config"):
        lf.to_config(lf.FaceIdLoss(network=torch.nn.Flatten()))


def test_arrays_as_options(tmp_path: Path) -> None:
    class Weighted(torch.nn.Module):
        def __init__(self, weights: Any = (1.0, 2.0)) -> None:
            super().__init__()
            self.weights = np.asarray(weights)

    (again, *_) = there_and_back(Weighted([3.0, 4.0]), tmp_path, allow=[Weighted])
    assert again.weights.tolist() == [3.0, 4.0]
