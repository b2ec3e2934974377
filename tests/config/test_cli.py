"""``lossfold list``, ``show`` and ``schema``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lossfold as lf
from lossfold.cli.__main__ import main
from lossfold.cli.plot import curve
from lossfold.registry import PARTS, PRESETS
from tests import internals

MAKERS = {**lf.LOSSES, **PRESETS}
ONE_DICT = {"stylegan2_discriminator", "stylegan2_generator", "modnet", "rvm", "deep_supervision", "multimask_losses", "birefnet"}
OF_IMAGES = {"gaussian_splatting", "depth_anything_v2"}
DRAWN = [name for name in MAKERS if name not in {"LossSet", *internals.foldless(), *ONE_DICT, *OF_IMAGES}]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in MAKERS)
    assert "\nLosses of classes: scores against class indices" in text
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in listed} >= set(MAKERS)
    assert {"name": "DiceLoss", "family": "classes", "summary": "Soft Dice loss."} in listed
    assert main(["list", "Dice", "distribution", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["GeneralizedWassersteinDiceLoss"]
    assert main(["list", "dise"]) == 2
    assert "'dice'" not in (error := capsys.readouterr().err) and "got dise" in error
    assert main(["list", "--markdown", "dice"]) == 2


@pytest.mark.parametrize("name", PARTS)
def test_show_parts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(name) and "--plot" not in text and "Called with" not in text
    assert ("every: int = 1" if name == "Term" else "values: Mapping" if "tep" in name else "begin: int = 0") in text


@pytest.mark.parametrize("name", [*lf.LOSSES, *PRESETS])
def test_show_has_no_marks_of_a_format(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert "``" not in text and ":class:" not in text and ":func:" not in text and "::\n" not in text


def test_show_of_classes_without_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    class Bare(torch.nn.Module):
        pass

    class Heir(lf.L1Loss):
        pass

    for cls in (Bare, Heir):
        lf.LOSSES.register(cls)
        assert main(["show", cls.__name__]) == 0
        assert main(["list"]) == 0
        del lf.LOSSES._classes[cls.__name__]
    text = capsys.readouterr().out
    assert "Base class for all neural network" not in text and "Define the computation" not in text
    assert "Return the loss" in text  # Heir's, which L1Loss has from its bases


FORKS = """
import os, runpy, sys
import lossfold.cli.__main__

folder = sys.argv[1]


def run(name, output, *arguments):
    child = os.fork()
    if not child:
        for number, path in ((1, output), (2, f"{folder}/{name}.err")):
            os.dup2(path if isinstance(path, int) else os.open(path, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (open(number, "w", encoding="ascii") for number in (1, 2))
        sys.argv = ["lossfold", *arguments]
        del sys.modules["lossfold.cli.__main__"]
        runpy.run_module("lossfold.cli", run_name="__main__")
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


reading, writing = os.pipe()
os.close(reading)
run("pipe", writing, "list")
if os.path.exists("/dev/full"):
    run("full", "/dev/full", "show", "L1Loss")
run("list", f"{folder}/list.out", "list", "--json")
run("show", f"{folder}/show.out", "show", "L1Loss")
"""
"""Four processes that begin where `python -m lossfold.cli` is about to run, so that torch is imported once."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_readers_that_stop_full_disks_and_ascii(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    codes = dict(line.split() for line in done.stdout.splitlines())
    assert codes.pop("pipe") == "1" and (tmp_path / "pipe.err").read_bytes() == b""
    if "full" in codes:
        said = (tmp_path / "full.err").read_bytes()
        assert codes.pop("full") == "1" and said.startswith(b"lossfold: the output can't be written: No space left")
        assert said.count(b"\n") == 1
    assert codes == {"list": "0", "show": "0"}
    assert any("Σ" in one["summary"] for one in json.loads((tmp_path / "list.out").read_bytes().decode("ascii")))
    assert b"\\u03a3" in (tmp_path / "show.out").read_bytes()


def test_the_plot_is_advertised_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name, there in {"DiceLoss": True, "mask_losses": True, "LossSet": False, "FaceIdLoss": False, "GANLoss": False}.items():
        assert main(["show", name]) == 0
        assert ("--plot FILE.png" in capsys.readouterr().out) == there, name


def test_the_plots_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "L1Loss", "--plot", str(tmp_path / "curve")]) == 2
    printed = capsys.readouterr()
    assert "ends in .png, .svg or .pdf" in printed.err and printed.out == "" and not list(tmp_path.iterdir())
    assert main(["show", "stylegan2_generator", "--plot", "x.png"]) == 2
    assert not re.search(r"\w\.\.\.$", capsys.readouterr().err)


@pytest.mark.parametrize("name", MAKERS)
def test_show(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(name) and "\nOptions:\n" in text
    if name == "DiceLoss":
        assert "average: 'macro' | 'micro' = 'macro'" in text and "smooth: float = 1.0\n        s >= 0" in text
        assert "loss_c = 1 - (2 Σ w p t + s)" in text and "[B, C, *S]" in text and "Milletari" in text


@pytest.mark.parametrize("name", DRAWN)
def test_curves(name: str) -> None:
    """The slope is that of the values, but at the kinks of Lovász's loss and of skeletons, and the cusp of PSNR's."""
    _, steps, values, slopes = curve(MAKERS[name], 40)
    assert values.min() < values.max()
    between = (values[2:] - values[:-2]) / (steps[2:] - steps[:-2])
    apart = ~torch.isclose(slopes[1:-1], between, rtol=0.05, atol=0.06 * float(slopes.abs().max()))
    assert apart.sum() <= (2 if name in ("LovaszLoss", "PSNRLoss", "CLDiceLoss") else 0)


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
        and "DiceLoss" in printed["$defs"]["node"]["properties"]["type"]["anyOf"][0]["enum"]
    )
