"""A whole run with tiny sizes: what it leaves behind, and what continuing it gives."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

import lossfold as lf
from lossfold.metrics import confusion
from lossfold.train.errors import TrainError
from lossfold.train.nets import SmallUNet
from lossfold.train.schedules import schedule
from lossfold.train.segmentation.evaluation import Scores
from lossfold.train.segmentation.module import SegmentationModule
from tests.train.tiny import Train

TERMS = (
    '{"type": "LossSet", "ce": {"type": "CrossEntropyLoss", "ignore_index": 255}, '
    '"dice": {"type": "DiceLoss", "ignore_index": 255}}'
)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def state(folder: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


def test_a_run_leaves_log_checkpoints_scores_and_report(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(f"--model.loss={TERMS}")
    shown = capsys.readouterr().out
    assert f"lossfold predict {folder} IMAGES" in shown and " s with scores and report" in shown
    assert "mIoU" in shown and "gravel" in shown and "before" in shown
    training = [row for row in rows(folder) if row["train/total"]]
    assert len(training) == 12
    for row in training:
        assert float(row["train/total"]) == pytest.approx(float(row["train/ce"]) + float(row["train/dice"]), rel=1e-5)
    scores = json.loads((folder / "scores.json").read_text())
    assert len(scores["classes"]) == len(scores["after"]["iou"]) == 6 and 0 <= scores["before"]["miou"] <= 1
    page = (folder / "report.html").read_text()
    assert "http" not in page and page.count("data:image/png;base64,") == 3 + 1 + 1 + 2 * 4
    assert "DiceLoss(" in page and "SmallUNet" in page and "ignored (label 255)" in page
    assert "checkpoints/best.ckpt, checkpoints/last.ckpt" in page and "lossfold.load(" in page
    model = SegmentationModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 6, 32, 32)


def test_schedules_of_the_loss_move_with_the_training(train: Train) -> None:
    """Once a step: the weights are in the totals, and the step is in the checkpoint."""
    dice = {"type": "DiceLoss", "ignore_index": 255}
    late = {"type": "Term", "loss": dice, "schedule": {"type": "linear", "start": 0.0, "end": 1.0, "steps": 12}}
    loss = json.dumps({"type": "LossSet", "ce": {"type": "CrossEntropyLoss", "ignore_index": 255}, "dice": late})
    folder = train(f"--model.loss={loss}")
    training = [row for row in rows(folder) if row["train/total"]]
    for number, row in enumerate(training):
        total = float(row["train/ce"]) + number / 12 * float(row["train/dice"])
        assert float(row["train/total"]) == pytest.approx(total, rel=1e-5)
    assert len(training) == 12
    steps = [int(value) for name, value in state(folder)["state_dict"].items() if name.endswith("_extra_state")]
    assert steps == [12]


@pytest.mark.slow
def test_loader_processes_change_nothing(train: Train) -> None:
    alone, helped = train("--data.num_workers=0", name="a"), train("--data.num_workers=1", name="b")
    for name, value in state(alone)["state_dict"].items():
        assert torch.equal(value, state(helped)["state_dict"][name]), name


def test_own_folders_with_mixed_precision(train: Train, folders: Path) -> None:
    names = ["ground", "le$t$_{", "[/right]"]  # which Matplotlib and rich would read as commands
    data = ["--data=FolderData", f"--data.root={folders}", f"--data.classes={json.dumps(names)}", "--data.crop_size=32",
            "--data.num_workers=0", "--data.batch_size=4", "--data.divisor=64"]  # fmt: skip
    run = train("--trainer.precision=bf16-mixed", data=data)
    scores = json.loads((run / "scores.json").read_text())
    assert scores["classes"] == names and scores["steps"] == 4
    held_out = (run / "held_out.txt").read_text().splitlines()
    assert len(held_out) == 2 and held_out[0].split("\t")[0].endswith(".jpg")
    assert lf.load(run, device="cpu").task.divisor == 64  # type: ignore[union-attr]


def test_networks_of_other_libraries_by_class_path(train: Train) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    network = ["--model.network=segmentation_models_pytorch.Unet", "--model.network.encoder_name=resnet18",
               "--model.network.encoder_weights=null"]  # fmt: skip
    run = train("--trainer.max_epochs=1", network=network)
    assert "Unet" in (run / "report.html").read_text()


def test_scores_of_a_known_confusion() -> None:
    labels = torch.tensor([[0, 0, 1, 1, 255, 1]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1, 1, 0, 0]])
    matrix = confusion(predicted, labels, 3, 255)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    scores = Scores.of(matrix)
    assert scores.iou == [pytest.approx(1 / 3), pytest.approx(1 / 2), None]
    assert scores.mean == pytest.approx(5 / 12) and scores.pixels == [2, 3, 0]
    assert math.isnan(Scores.of(torch.zeros(2, 2)).mean)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (32, 64)])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_small_unet_takes_any_size(size: tuple[int, int], stem_stride: int) -> None:
    network = SmallUNet(classes=3, width=4, levels=3, stem_stride=stem_stride).eval()
    assert network(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize(("name", "middle"), [("cosine", 0.5), ("linear", 0.5), ("poly", 0.5**0.9), ("constant", 1.0)])
def test_schedules_rise_and_fall(name: Any, middle: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule(optimizer, name, total_steps=110, warmup=10 / 110)
    rates = []
    for _ in range(111):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1 / 11) and rates[10] == 1.0 and rates[60] == pytest.approx(middle)
    assert rates[110] == pytest.approx(1.0 if name == "constant" else 0.0)


def test_a_warm_up_is_no_number_of_steps() -> None:
    with pytest.raises(TrainError, match=r"model\.warmup must lie in 0\.\.1.*got 500"):
        SegmentationModule(["a", "b"], SmallUNet(2, width=4), warmup=500)
