"""``lossfold list``, ``show`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import lossfold as lf
from lossfold.cli.__main__ import main
from lossfold.cli.plot import curve
from lossfold.registry import PRESETS
from tests.cases import FOLDLESS

MAKERS = {**lf.LOSSES, **PRESETS}
OF_A_DICT = {"stylegan2_discriminator", "stylegan2_generator"}  # what a trainer offers: no curve of a score
DRAWN = [name for name in MAKERS if name not in {"LossSet", *FOLDLESS, *OF_A_DICT}]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in MAKERS)
    assert "\noverlap: Dice, Jaccard and Tversky" in text
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in listed} >= set(MAKERS)
    assert {"name": "DiceLoss", "family": "overlap", "summary": "Soft Dice loss."} in listed


@pytest.mark.parametrize("name", MAKERS)
def test_show(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(name) and "\nOptions:\n" in text and "--plot" in text
    if name == "DiceLoss":
        assert "average: 'macro' | 'micro' = 'macro'" in text and "smooth: float = 1.0\n        s >= 0" in text
        assert "loss_c = 1 - (2 Σ w p t + s)" in text and "[B, C, *S]" in text and "Milletari" in text


@pytest.mark.parametrize("name", DRAWN)
def test_curves(name: str) -> None:
    """The slope is that of the values, but at the kinks of Lovász's loss and the cusp of PSNR's."""
    _, steps, values, slopes = curve(MAKERS[name])
    assert values.min() < values.max()
    between = (values[2:] - values[:-2]) / (steps[2:] - steps[:-2])
    apart = ~torch.isclose(slopes[1:-1], between, rtol=0.05, atol=0.06 * float(slopes.abs().max()))
    assert apart.sum() <= (2 if name in ("LovaszLoss", "PSNRLoss") else 0)


def test_the_curve_of_the_absolute_error() -> None:
    _, steps, values, slopes = curve(lf.L1Loss)
    torch.testing.assert_close(values, steps.abs())
    torch.testing.assert_close(slopes, steps.sign())


@pytest.mark.parametrize("name", ["DiceLoss", "L1Loss", "mask_losses"])
def test_plot(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "loss.png"
    assert main(["show", name, "--plot", str(file)]) == 0
    assert str(file) in capsys.readouterr().out
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "DiceLos"], "did you mean 'DiceLoss'"),
        (["show", "mask_loses"], "did you mean 'mask_losses'"),
        (["show", "LossSet", "--plot", "x.png"], "plot"),
        (["show", "PerceptualLoss", "--plot", "x.png"], "needs no options"),
        (["show", "L1Loss", "--plot", "no/such/folder/x.png"], "can be written"),
        (["show", "L1Loss", "--plot", "x.nothing"], "can be written"),
        (["schema", "-o", "no/such/folder/x.json"], "can be written"),
    ],
)
def test_errors(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["schema", "-o", str(tmp_path / "a.json")]) == 0
    assert "yaml-language-server" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "a.json").read_text()) == printed
        and "DiceLoss" in printed["$defs"]["node"]["properties"]["type"]["enum"]
    )
