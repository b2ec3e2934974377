"""Training on two ranks, and in micro-batches, is training in one process: the same losses, step for step."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")

from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy

from lossfold.train.errors import TrainError
from lossfold.train.nets import SmallUNet
from lossfold.train.segmentation.module import SegmentationModule
from tests.train.tiny import COLLAGE, TRAINER, Train

ROOT = Path(__file__).parents[2]
CONV = ["--model.network=torch.nn.Conv2d", "--model.network.in_channels=3", "--model.network.out_channels=6",
        "--model.network.kernel_size=3", "--model.network.padding=same"]  # fmt: skip
"""A network without batch norm."""
LOSS = """--model.loss={"ce": {"type": "CrossEntropyLoss", "ignore_index": 255}, "dice": {"type": "DiceLoss", "ignore_index": 255},
 "hard": {"type": "OhemCrossEntropyLoss", "ignore_index": 255, "min_kept": 500, "thresh": 0.1}}""".replace("\n", "")
STEPS = ["--trainer.max_epochs=4", "--score_before=false"]


def losses(folder: Path) -> dict[str, list[float]]:
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/total"]]
    return {name: [float(row[f"train/{name}"]) for row in rows] for name in ("total", "ce", "dice", "hard")}


def same(found: dict[str, list[float]], truth: dict[str, list[float]]) -> None:
    assert len(truth["total"]) == 24 and sum(truth["total"][:6]) - sum(truth["total"][-6:]) > 0.05
    for name, values in truth.items():
        assert found[name] == pytest.approx(values, abs=1e-4), name


@pytest.mark.slow
def test_micro_batches(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(LOSS, *STEPS, network=CONV, name="whole")
    parts = train(LOSS, *STEPS, "--model.micro_batches=2", network=CONV, name="parts")
    same(losses(parts), losses(whole))
    train("--model.micro_batches=0", status=1)
    assert "micro_batches must be at least 1" in capsys.readouterr().err


def test_micro_batches_want_whole_parameters() -> None:
    for parts in (1, 2):
        model = SegmentationModule(["a", "b"], SmallUNet(2, width=4), micro_batches=parts)
        model._trainer = SimpleNamespace(strategy=SingleDeviceStrategy("cpu"))  # type: ignore[assignment]
        model.on_fit_start()
        model._trainer.strategy = FSDPStrategy()  # type: ignore[union-attr]
        with nullcontext() if parts == 1 else pytest.raises(TrainError, match=r"FSDPStrategy is not supported for model\.micro_b"):
            model.on_fit_start()


@pytest.mark.slow
def test_two_ranks(train: Train, tmp_path: Path) -> None:
    """By default; the log says whose losses they are, and that those of each rank alone are others."""
    whole = losses(train(LOSS, *STEPS, network=CONV, name="whole"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    def ranks(name: str, *options: str) -> tuple[dict[str, list[float]], str]:
        where = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=2", f"--run_dir={tmp_path / name}"]
        command = [sys.executable, "-m", "lossfold.cli", "train", "segmentation", *TRAINER, *COLLAGE, *CONV, LOSS, *STEPS, *where]
        command += options
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return losses(tmp_path / name), done.stdout + done.stderr

    together, told = ranks("together")
    same(together, whole)
    assert "those of the batches of all 2 ranks together (model.sync true)" in told
    both, _ = ranks("both", "--model.micro_batches=2")
    same(both, whole)
    alone, told = ranks("alone", "--model.sync=false")
    assert "each rank's own (model.sync false)" in told
    assert max(abs(a - b) for a, b in zip(alone["total"], whole["total"], strict=True)) > 1e-3
