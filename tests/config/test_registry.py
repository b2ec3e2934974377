"""Users' own losses: MMEngine's decorator, functions of single elements, and packages with entry points."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold import LOSSES
from tests.contract.case import same_bits


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = dict(LOSSES._classes)
    yield
    LOSSES._classes.clear()
    LOSSES._classes.update(before)


class MyLoss(torch.nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale


def test_the_decorator() -> None:
    entered = LOSSES.register_module()(MyLoss)
    assert entered is MyLoss and LOSSES["MyLoss"] is MyLoss
    assert lf.build({"type": "MyLoss", "scale": 3}).scale == 3
    assert LOSSES.register_module(name="Other")(MyLoss) is MyLoss and LOSSES["Other"] is MyLoss
    assert LOSSES.register_module(module=MyLoss, name=["A", "B"]) is MyLoss and LOSSES["A"] is LOSSES["B"] is MyLoss
    assert lf.build({"_target_": f"{__name__}.MyLoss"}).scale == 1


def test_names_are_taken_once_but_by_force() -> None:
    with pytest.raises(lf.LossError, match=r"not taken.*'DiceLoss'.*force=True"):
        LOSSES.register_module(name="DiceLoss")(MyLoss)
    assert LOSSES["DiceLoss"] is lf.DiceLoss
    LOSSES.register_module(name="DiceLoss", force=True)(MyLoss)
    assert LOSSES["DiceLoss"] is MyLoss


def test_of_several_names_all_or_none_is_entered() -> None:
    with pytest.raises(lf.LossError, match="'DiceLoss'"):
        LOSSES.register_module(name=["Fresh", "DiceLoss"])(MyLoss)
    assert "Fresh" not in LOSSES and LOSSES["DiceLoss"] is lf.DiceLoss
    LOSSES.register_module(name=["Fresh", "Fresh"])(MyLoss)
    assert LOSSES["Fresh"] is MyLoss


def test_it_is_a_mapping() -> None:
    assert LOSSES.get("DiceLoss") is lf.DiceLoss
    assert LOSSES.get("nope") is None and LOSSES.get("nope", 3) == 3
    with pytest.raises(lf.LossError, match="did you mean 'DiceLoss'"):
        LOSSES["DiceLos"]


@pytest.mark.parametrize(
    ("options", "word"),
    [({"name": MyLoss}, r"register_module\(\)"), ({"name": 3}, "name"), ({"name": [""]}, "name"), ({"force": 1}, "force")],
)
def test_wrong_uses(options: dict[str, Any], word: str) -> None:
    with pytest.raises(lf.LossError, match=word):
        LOSSES.register_module(**options)


@pytest.mark.parametrize("module", [int, 3, "MyLoss", torch.nn.L1Loss()])
def test_what_is_no_loss(module: Any) -> None:
    with pytest.raises(lf.LossError, match="class of modules, or a function"):
        LOSSES.register_module(module=module)


def quartic_loss(pred: Tensor, target: Tensor, factor: float = 1.0, *, offset: float = 0.0) -> Tensor:
    """The fourth power."""
    return factor * (pred - target + offset) ** 4


def test_a_function_of_single_elements() -> None:
    assert LOSSES.register_module()(quartic_loss) is quartic_loss
    loss = lf.build({"type": "quartic_loss", "factor": 2.0, "loss_weight": 0.5, "sample_wise": True})
    pred, target = torch.randn(3, 2, 4, 5, requires_grad=True), torch.randn(3, 2, 4, 5)
    mask = torch.rand(3, 1, 4, 5) > 0.5
    value = loss(pred, target, mask)
    each = (2.0 * (pred - target) ** 4 * mask).double().sum((1, 2, 3)) / (2 * mask.double().sum((1, 2, 3)))
    torch.testing.assert_close(value, 0.5 * each.mean().float())
    assert repr(loss) == "LOSSES['quartic_loss'](factor=2.0, sample_wise=True, loss_weight=0.5)"
    for other in (eval(repr(loss)), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        same_bits(other(pred, target, mask), value)
    (slope,) = torch.autograd.grad(value, pred)
    assert slope[mask.expand_as(pred)].count_nonzero() > 0 and slope[~mask.expand_as(pred)].count_nonzero() == 0
    out = lf.LossSet(q=loss, l1=lf.L1Loss())(pred, target, mask)
    same_bits(out.weighted["q"], value)
    loss.factor = 4.0
    torch.testing.assert_close(loss(pred, target, mask), 2 * value)


def test_options_of_functions_are_checked() -> None:
    LOSSES.register_module(module=quartic_loss)
    for option, word in {"facto": "did you mean 'factor'", "reduction": "'mean'", "loss_weight": "a number"}.items():
        with pytest.raises(lf.LossError, match=word):
            lf.build({"type": "quartic_loss", option: "x"})

    def needy(pred: Tensor, target: Tensor, order: int) -> Tensor:
        return (pred - target).abs() ** order

    LOSSES.register_module(module=needy)
    with pytest.raises(lf.LossError, match=r"cfg\.order must be given"):
        lf.build({"type": "needy"})
    assert lf.build({"type": "needy", "order": 2})(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)) == 9
    bad: list[Callable[..., Any]] = [
        lambda pred: pred,
        lambda pred, target, weight: pred,
        lambda pred, target, loss_weight=1: pred,
        lambda pred, target, **options: pred,
    ]
    for function in bad:
        with pytest.raises(lf.LossError):
            LOSSES.register_module(name="bad")(function)


PACKAGE = """
import torch
import lossfold as lf

class PluginLoss(torch.nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

@lf.LOSSES.register_module()
class SelfRegistered(PluginLoss):
    pass

def cubic(pred, target, factor=1.0):
    return factor * (pred - target).abs() ** 3

number = 3
"""
POINTS = """[lossfold.losses]
PluginLoss = fake_losses:PluginLoss
cubic_loss = fake_losses:cubic
SelfRegistered = fake_losses:SelfRegistered
Missing = fake_losses:Nothing
Number = fake_losses:number
Broken = broken_losses:Loss
Leaving = leaving_losses:Loss
Malformed = no such thing
DiceLoss = fake_losses:PluginLoss
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "fake_losses.py").write_text(PACKAGE)
    (tmp_path / "broken_losses.py").write_text("raise RuntimeError('a broken package')\n")
    (tmp_path / "leaving_losses.py").write_text("import sys\nsys.exit(3)\n")
    info = tmp_path / "fake_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("fake_losses", "broken_losses", "leaving_losses"):
        sys.modules.pop(name, None)


def test_plugins_are_named_without_being_imported(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = LOSSES.plugins()
    assert names["PluginLoss"] == "fake_losses:PluginLoss" and "DiceLoss" not in names
    assert "PluginLoss" in LOSSES and "PluginLoss" not in list(LOSSES)
    lf.build({"type": "DiceLoss"})
    with pytest.raises(lf.LossError, match="did you mean 'PluginLoss'"):
        lf.build({"type": "PluginLos"})
    assert "fake_losses" not in sys.modules and "broken_losses" not in sys.modules


def test_plugins_are_imported_when_asked_for(plugin: Path) -> None:
    assert lf.build({"type": "PluginLoss", "scale": 2}).scale == 2
    assert lf.build({"type": "cubic_loss", "factor": 2.0}).factor == 2
    assert type(lf.build({"_target_": "fake_losses.SelfRegistered"})) is LOSSES["SelfRegistered"]
    assert "PluginLoss" in list(LOSSES) and "PluginLoss" not in LOSSES.plugins()
    assert LOSSES["DiceLoss"] is lf.DiceLoss
    with pytest.raises(lf.LossError, match="registered"):
        lf.build({"_target_": "fake_losses.number"} | {"_target_": "fake_losses.torch.load"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Broken", r"plug-in 'Broken': .*RuntimeError: a broken package.*fake-losses"),
        ("Missing", r"plug-in 'Missing': .*AttributeError.*fake-losses"),
        ("Leaving", r"plug-in 'Leaving': .*SystemExit: 3.*fake-losses"),
        ("Malformed", r"plug-in 'Malformed': entry point must be package.module:Class, got 'no such thing'.*fake-losses"),
        ("Number", "Number must be a class of modules, or a function"),
    ],
)
def test_a_broken_plugin_breaks_nothing_else(name: str, words: str, plugin: Path) -> None:
    with pytest.raises(lf.LossError, match=words):
        LOSSES[name]
    with pytest.raises(lf.LossError, match=words):
        lf.build({"a": {"type": "DiceLoss"}, "b": {"type": name}})
    assert lf.build({"type": "PluginLoss"}).scale == 1
    assert lf.build({"type": "DiceLoss"}).smooth == 1


def test_two_packages_with_one_name(plugin: Path) -> None:
    info = plugin / "other-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[lossfold.losses]\nPluginLoss = other:PluginLoss\n")
    LOSSES._plugins._searched = None
    with pytest.raises(lf.LossError, match=re.escape("fake_losses:PluginLoss of fake-losses")) as caught:
        lf.build({"type": "PluginLoss"})
    assert "of other" in str(caught.value)


@pytest.mark.parametrize("text", [b"[lossfold.losses]\nnonsense\n", b"[lossfold.losses]\nA = \xff:B\n"])
def test_a_list_that_cannot_be_read_hides_no_other(text: bytes, plugin: Path) -> None:
    info = plugin / "other-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (info / "entry_points.txt").write_bytes(text)
    LOSSES._plugins._searched = None
    with pytest.warns(UserWarning, match="of other"):
        names = LOSSES.plugins()
    assert names["PluginLoss"] == "fake_losses:PluginLoss"
    assert lf.build({"type": "PluginLoss"}).scale == 1
