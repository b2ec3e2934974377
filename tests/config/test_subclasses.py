"""An ordinary subclass with a constructor of its own is a loss like every other; names outlive the files of their classes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.config.schema import schema
from lossfold.losses.base import Loss
from lossfold.losses.classes.overlap import OverlapLoss

LOGITS, LABELS = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))


class ScaledDice(lf.DiceLoss):
    def __init__(self, scale: float = 2.0) -> None:
        super().__init__(smooth=scale)
        self.scale = scale


class LearnedDice(lf.DiceLoss):
    """With a parameter and a submodule."""

    def __init__(self, classes: int, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.classes, self.temperature = classes, temperature
        self.gain = nn.Parameter(torch.tensor(temperature))
        self.head = nn.Conv2d(classes, classes, 1)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(self.gain * self.head(logits), labels)


class Distance(Loss):
    """Of nothing but what every loss is."""

    def __init__(self, power=2.0, *, loss_weight=1.0):  # type: ignore[no-untyped-def]
        super().__init__(loss_weight=loss_weight)
        self.power = power

    def evaluate(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs().pow(self.power).mean()

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.weigh(self.evaluate(pred, target))


class Halved(OverlapLoss):
    """Over the fold: its formula is that of its base."""

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__(average="micro")
        self.strength = strength

    def overlap(self, both: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        return self.strength * both, predicted + true


MADE: dict[str, tuple[Loss, str, dict[str, Any]]] = {
    "scaled": (ScaledDice(3.0), "ScaledDice(scale=3.0)", {"scale": 3.0}),
    "default": (ScaledDice(), "ScaledDice()", {}),
    "base": (Distance(power=3.0), "Distance(power=3.0)", {"power": 3.0}),
    "fold": (Halved(0.25), "Halved(strength=0.25)", {"strength": 0.25}),
}


@pytest.fixture
def registered() -> Iterator[None]:
    classes = (ScaledDice, LearnedDice, Distance, Halved)
    for cls in classes:
        lf.LOSSES.register(cls)
    yield
    for cls in classes:
        del lf.LOSSES._classes[cls.__name__]


def arguments(loss: nn.Module) -> tuple[Tensor, Tensor]:
    return (LOGITS, LOGITS.roll(1)) if isinstance(loss, Distance) else (LOGITS, LABELS)


@pytest.mark.parametrize("what", MADE)
def test_it_is_an_object_like_every_loss(what: str) -> None:
    loss, text, _ = MADE[what]
    assert repr(loss) == text and repr(eval(text, globals())) == text
    value = loss(*arguments(loss))
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert type(twin) is type(loss) and repr(twin) == text and twin is not loss
        assert torch.equal(twin(*arguments(loss)), value)
    half = 0.5 * loss
    assert torch.equal(half(*arguments(loss)), 0.5 * value) and loss.loss_weight == 1
    assert repr(eval(repr(half), globals())) == repr(half) and "0.5" in repr(half)


@pytest.mark.parametrize("what", MADE)
def test_it_is_a_term_of_sets(what: str) -> None:
    loss, _, _ = MADE[what]
    other = lf.L1Loss() if isinstance(loss, Distance) else lf.CrossEntropyLoss()
    for criterion in (lf.LossSet(mine=0.5 * loss, other=other), 0.5 * loss + other):
        out = criterion(*arguments(loss))
        (name,) = {"mine", "scaled_dice", "distance", "halved"} & out.terms.keys()
        assert torch.equal(out.weighted[name], 0.5 * loss(*arguments(loss)))


@pytest.mark.parametrize("what", MADE)
def test_it_is_built_from_its_own_options(what: str, registered: None) -> None:
    loss, text, options = MADE[what]
    name = type(loss).__name__
    config = {"type": name, **options}
    assert repr(lf.build(config)) == text and lf.to_config(loss) == config
    for half in (0.5 * loss, lf.LossSet(a=0.5 * loss)):
        again = lf.build(lf.to_config(half))
        assert repr(again) == repr(half)
    with pytest.raises(lf.LossError, match=rf"{name}: cfg\.average must be an option of this loss"):
        lf.build({**config, "average": "micro"})
    with pytest.raises(lf.LossError, match=r"cfg\.loss_weight must be a number"):
        lf.build({**config, "loss_weight": "x"})
    described = schema()["$defs"][f"options of {name}"]["properties"]
    assert described.keys() >= {*options, "loss_weight"} and "average" not in described


def test_what_its_constructor_does_not_take_is_not_left_out_of_its_configuration(registered: None) -> None:
    changed = ScaledDice(3.0)
    changed.squared = True
    with pytest.raises(lf.LossError, match=r"squared=False, got squared=True .*to_config\(\)"):
        lf.to_config(changed)


@pytest.mark.parametrize("option", ["smooth", "loss_weight"])
def test_an_option_that_the_constructor_hands_on_as_another_is_not_mistaken_for_it(option: str) -> None:
    def halved(self: Any, *, smooth: float = 5.0, loss_weight: float = 1.0) -> None:
        lf.DiceLoss.__init__(self, smooth=smooth / 2, loss_weight=loss_weight / 2)

    cls = type("HalvedSmooth", (lf.DiceLoss,), {"__init__": halved, "__module__": __name__})
    with pytest.raises(lf.LossError, match=r"smooth=.*got smooth=.*to_config\(\)"):
        lf.to_config(cls(**{option: 4.0}), allow=[cls])


def test_a_range_of_the_base_holds_for_what_is_handed_on() -> None:
    with pytest.raises(lf.LossError, match="ScaledDice: smooth must be a number >= 0, got -1"):
        ScaledDice(-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'smooth'"):
        ScaledDice(smooth=1.0)  # type: ignore[call-arg]
    loss = ScaledDice()
    with pytest.raises(lf.LossError, match="ScaledDice: average must be one of"):
        loss.average = "most"
    assert loss.average == "macro"
    loss.smooth, loss.scale = 0.5, 7.0
    assert (loss.smooth, loss.scale) == (0.5, 7.0)


def test_parameters_and_submodules_of_its_own(registered: None) -> None:
    loss = LearnedDice(3, class_weight=[1.0, 2.0, 3.0])
    assert sorted(dict(loss.named_parameters())) == ["gain", "head.bias", "head.weight"]
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), mine=0.5 * loss)
    criterion(LOGITS, LABELS).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in criterion.parameters())
    twin = pickle.loads(pickle.dumps(loss))
    assert torch.equal(twin(LOGITS, LABELS), loss(LOGITS, LABELS)) and twin.class_weight == (1.0, 2.0, 3.0)
    twin.load_state_dict(loss.state_dict(), strict=True)
    assert loss.double().head.weight.dtype == torch.float64 and next(loss.buffers()).dtype == torch.float64
    assert repr(loss) == "LearnedDice(classes=3)"
    built = lf.build({"type": "LearnedDice", "classes": 3, "smooth": 0.5})
    assert isinstance(built, LearnedDice) and built.smooth == 0.5
    with pytest.raises(lf.LossError, match=r"cfg\.classes must be given"):
        lf.build({"type": "LearnedDice"})


def test_a_loss_s_own_options_come_first() -> None:
    last = ["loss_weight", "inputs", "data_info", "loss_name"]
    for name, cls in lf.LOSSES.items():
        for signature in (inspect.signature(cls), inspect.signature(cls.__init__)):
            names = [
                one for one in signature.parameters if one not in ("self", "terms", "named", "sync", "process_group", "gradients")
            ]
            common = [one for one in last if one in names]
            assert names[-len(common) :] == common, (name, names)
    assert list(inspect.signature(lf.TverskyLoss).parameters)[:5] == ["alpha", "beta", "exponent", "average", "smooth"]
    assert next(iter(inspect.signature(lf.GANLoss).parameters)) == "gan_type"
    stub = Path(lf.functional.__file__).with_suffix(".pyi").read_text()
    dice = stub[stub.index("def dice_loss(") :].partition(") -> Tensor")[0]
    assert re.findall(r"\b(average|link|loss_weight|inputs):", dice) == ["average", "link", "loss_weight", "inputs"]


@pytest.mark.parametrize("name", lf.LOSSES)
@pytest.mark.parametrize("key", ["type", "_target_", "class_path"])
def test_any_path_of_ours_is_the_class_it_ends_in(key: str, name: str) -> None:
    """Files move between versions; configurations that other packages have written keep the old paths."""
    config = {} if key == "class_path" else {"unknown option": 1}
    for path in (f"lossfold.{name}", f"lossfold.losses.overlap.{name}", f"lossfold.a.file.that.never_was.{name}"):
        with pytest.raises(lf.LossError) as caught:
            lf.build({key: path, **(config or {"init_args": {"unknown option": 1}})})
        assert not str(caught.value).startswith("lossfold.build: cfg." + key), str(caught.value)
        if name != "LossSet":
            assert str(caught.value).startswith(f"{name}: cfg."), str(caught.value)


def test_old_paths_of_losses_presets_and_schedules() -> None:
    built = lf.build({"_target_": "lossfold.losses.overlap.DiceLoss", "smooth": 0.5})
    assert type(built) is lf.DiceLoss and built.smooth == 0.5
    assert repr(lf.build({"type": "lossfold.losses.presets.mask_losses"})) == repr(lf.presets.mask_losses())
    ramp = {"_target_": "lossfold.schedules.LinearSchedule", "start": 0.0, "end": 1.0, "steps": 10}
    config = {"a": {"_target_": "lossfold.losses.L1Loss", "schedule": ramp}}
    assert "LinearSchedule" in repr(lf.build(config))
    jsonschema = pytest.importorskip("jsonschema")
    checked = jsonschema.Draft202012Validator(schema())
    checked.validate(config)
    assert not checked.is_valid({"_target_": "lossfold.losses.L1Los"})
    for wrong in ("lossfold.losses.overlap.OverlapLoss", "lossfold..DiceLoss", "lossfold.DiceLoss.forward", "lossfold_.DiceLoss"):
        with pytest.raises(lf.LossError, match="the name of a registered loss"):
            lf.build({"_target_": wrong})
        assert not checked.is_valid({"_target_": wrong})
