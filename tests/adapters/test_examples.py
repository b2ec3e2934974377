"""The example for each framework runs and learns."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    return capsys.readouterr().out.splitlines()


def test_plain_loop(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage")
    rows = [ast.literal_eval(line.partition(" ")[2]) for line in run("plain_loop", capsys)]
    assert [list(row) for row in rows] == [["total", "charbonnier", "ssim", "tv"]] * 3
    assert rows[-1]["charbonnier"] < 0.9 * rows[0]["charbonnier"]


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")
def test_lightning(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    terms, _, step = run("lightning_module", capsys)[-1].rpartition(" step ")
    values = ast.literal_eval(terms)
    assert step == "20" and set(values) == {"train/total", "train/ce", "train/dice"}
    assert values["train/ce"] < 0.9 and values["train/dice"] < 0.55  # log 3 and 2/3 without knowledge


def test_hugging_face(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    first, second = [row for row in map(ast.literal_eval, run("hf_trainer", capsys)[-3:]) if row]
    assert set(first) == {"loss", "loss_ce", "loss_lovasz", "loss_dice"}
    assert second["loss_ce"] < 0.9 * first["loss_ce"]


@pytest.mark.filterwarnings("ignore")  # what MMEngine says about itself
def test_mmengine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pytest.importorskip("mmengine.registry").MODELS
    monkeypatch.setattr(registry, "_module_dict", dict(registry.module_dict))
    terms, _, step = run("mmengine_runner", capsys)[-1].rpartition(" step ")
    values = ast.literal_eval(terms)
    assert step == "16" and set(values) == {"loss", "loss_ce", "loss_dice"}
    assert values["loss_ce"] < 0.9


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")
def test_lightning_micro_batches(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    values = ast.literal_eval(run("lightning_micro_batches", capsys)[-1])
    assert set(values) == {"train/total", "train/ce", "train/lovasz"} and values["train/ce"] < 0.9


@pytest.mark.slow
def test_ranks_parts_tiles() -> None:
    """Means of means are far off; sums are not."""
    pytest.importorskip("skimage")
    command = [sys.executable, str(EXAMPLES / "ranks_parts_tiles.py")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500).stdout.splitlines()
    off = [float(line.split()[-2]) for line in told if line.endswith("%")]
    assert len(off) == 6 and max(off[0], off[2], off[4], off[5]) < 0.01 and min(off[1], off[3]) > 10
