"""The command: options, recipes, and one clear message for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lightning")

import lossfold.train
from lossfold.train import main
from tests.train.tiny import Train

OK_LOSS = '{"type": "CEDiceLoss", "ignore_index": 255}'


def test_no_task_and_unknown_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and main(["--help"]) == 0
    assert "segmentation" in capsys.readouterr().out
    assert main(["segmentatoin"]) == 2
    assert "did you mean 'segmentation'" in capsys.readouterr().err


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lossfold.train, "REQUIRED", ("lightning", "no_such_package"))
    assert main(["segmentation"]) == 1
    message = capsys.readouterr().err
    assert "not installed: no_such_package" in message and 'pip install "lossfold[train]"' in message


def test_help_is_lightnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segmentation", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--trainer.precision", "--trainer.strategy", "--model.loss", "--data", "--ckpt_path", "--run_dir"):
        assert option in shown


def test_a_recipe_is_a_config_and_later_options_win(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segmentation", "--recipe", "demo", "--model.warmup", "0.25", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["warmup"] == 0.25
    assert config["model"]["loss"]["dice"]["type"] == "DiceLoss"
    assert config["run_dir"] == "runs/demo"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "dmo"], "there is no recipe 'dmo'; choose from: binary, demo, multilabel"),
        (['--model.loss={"type": "DiseLoss"}'], "DiceLoss"),
        (['--model.loss={"type": "DiceLoss", "smoth": 1}'], "smooth"),
        (['--model.loss={"type": "DiceLoss"}'], "give it ignore_index: 255"),
        (["--ckpt_path=last"], "there is no checkpoint"),
        (["--data=FolderData", "--data.root=nowhere", "--data.classes=3"], "there is no folder nowhere"),
        (["--model.network=torch.nn.Conv2d", "--model.network.in_channels=3", "--model.network.out_channels=5",
          "--model.network.kernel_size=1"], "scores 5 classes, but the data has 6"),
    ],
)  # fmt: skip
def test_mistakes_give_one_message(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [f"--model.loss={OK_LOSS}", f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu"]
    assert main(["segmentation", *common, *options]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_run_is_not_overwritten_by_accident(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("--trainer.max_epochs=1", "--score_before=false")
    train(status=1)
    assert "already holds a run" in capsys.readouterr().err
    folder = train("--trainer.max_epochs=1", "--overwrite=true")
    assert json.loads((folder / "scores.json").read_text())["steps"] == 6
